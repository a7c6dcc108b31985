"""What a lane takes from its peers and from its broker.

Checks and decodes each message, and gives what it says to the `Performer`. Receives nothing by itself and
waits for nothing: a test can give it anything.
"""

from __future__ import annotations

import logging
import math
import secrets
import socket
import time

from google.protobuf.message import DecodeError

from quakegrid.errors import PeerError
from quakegrid.nodes import worker_end_messages
from quakegrid.services.lane import codec
from quakegrid.services.lane.codec import UnknownSessionError
from quakegrid.services.lane.drivers.greetings import Greetings
from quakegrid.services.lane.drivers.joining import Joining
from quakegrid.services.lane.mail import Message, SessionMail
from quakegrid.services.lane.payloads import Payloads, SpillError
from quakegrid.services.lane.peers import Peers, SendFrames
from quakegrid.services.lane.performer import Performer
from quakegrid.services.lane.settings import DoorSettings
from quakegrid.services.lane.tasks import events as core
from quakegrid.services.lane.tasks.events import Lease, Peer, SessionId, TaskId, WorkerId
from quakegrid.transport import lane_names
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.transport.lane_names import DriverName, PeerName, WorkerName, worker_name
from quakegrid.wire.v1 import lane_pb2

log = logging.getLogger("quakegrid.lane")
# Of the number of the first hello, which is drawn.
HELLO_BITS = 48
_decode = lane_pb2.LaneMessage.FromString


class Door:
    """Takes each message of a turn of the loop, and has tasks placed at its end.

    Args:
        send: sends the frames of a message by the lane's ROUTER; the first one names the peer.
        control: our end of the broker's control socket, for sending.
        payloads: where they are kept.
        settings: of the cluster.
    """

    def __init__(
        self,
        send: SendFrames,
        control: socket.socket,
        payloads: Payloads,
        settings: DoorSettings,
    ) -> None:
        self._payloads, self._settings = payloads, settings
        self._peers = Peers(settings.token_key, send)
        self._performer = Performer(self._peers, control, payloads, settings)
        self._scheduler, self._sessions = self._performer.scheduler, self._performer.sessions
        self._reports = self._performer.reports
        greetings = Greetings(secrets.randbits(HELLO_BITS))  # of the lane before us they had other numbers
        self._joining = Joining(self._performer, self._peers, greetings)
        self._greetings = greetings.by_driver
        self.begin_turn(time.monotonic())

    @property
    def session_count(self) -> int:
        """Open sessions."""
        return len(self._sessions)

    @property
    def task_count(self) -> int:
        """Tasks of open sessions, queued or at workers."""
        return self._scheduler.task_count(self._scheduler.session_ids)

    def begin_turn(self, now_s: float) -> None:
        """A turn begins; messages follow."""
        self._now_s = self._performer.now_s = now_s

    def finish_turn(self) -> None:
        """All messages of a turn were taken: place tasks, tell the broker."""
        self._joining.end_settling()
        look_s = self._scheduler.next_deadline_s()
        if look_s is not None and self._now_s >= look_s:
            self._performer.handle(core.TimePassed())
        self._performer.flush()
        self._performer.perform(self._scheduler.place())
        self._reports.send_due(self._now_s)

    def timeout_ms(self, end_s: float = math.inf) -> int | None:
        """How long the next turn may wait for messages, but not beyond an instant; None for ever."""
        ends_s = self._joining.deadlines_s
        if end_s < math.inf:
            ends_s.append(end_s)
        deadlines_s = self._reports.next_deadline_s(), self._scheduler.next_deadline_s()
        ends_s += [deadline_s for deadline_s in deadlines_s if deadline_s is not None]
        return max(0, int((min(ends_s) - time.monotonic()) * 1000) + 1) if ends_s else None

    # --- what the broker says

    def obey(self, packet: bytes) -> None:
        """Take one order of the broker's; a fault of ours ends the session that it names, and no other."""
        message = lane_pb2.ControlMessage.FromString(packet)
        session_id = SessionId(getattr(message, message.WhichOneof("body") or "").session_id)
        with self._performer.contained(session_id):
            self._reports.changed.add(session_id)
            self._obey(session_id, message)

    def _obey(self, session_id: SessionId, message: lane_pb2.ControlMessage) -> None:
        match message.WhichOneof("body"):
            case "open":
                self._performer.open(message.open)
                self._joining.open(session_id, self._peers.take_turned_away(session_id))
            case "workers":
                self._joining.await_workers(session_id, message.workers)
            case "close":
                if session_id in self._sessions:
                    self._reports.tell_last(session_id)
                self._performer.handle(core.SessionClosed(session_id))
            case "worker_lost":
                end = worker_end_messages.decode(message.worker_lost)
                session = self._sessions.get(session_id)
                if session is not None:
                    token = lane_keys.worker_token(self._settings.token_key, session_id, end.worker_id)
                    peer = Peer(worker_name(session_id, end.worker_id, token))
                    session.lose_worker(peer, end, self._now_s)
                self._performer.handle(end)
            case "drain":
                self._performer.handle(core.DrainAsked(session_id, WorkerId(message.drain.worker_id)))
            case other:
                raise ValueError(f"the broker sent {other!r} to its lane")

    # --- what drivers and workers say

    def take(self, peer: Peer, header: bytes, payload: list[zmq.Frame]) -> None:
        """Take one message of a peer, whatever it is.

        One that is wrong is refused in words. A fault of ours ends the session of the peer that provoked it,
        and no other.
        """
        who: PeerName | None = None
        try:
            if not header and not payload:  # a probe
                self._joining.greet(peer)
                return
            who = self._peers.known.get(peer) or self._peers.recognise(peer, self._sessions)
            if len(header) > codec.MAX_HEADER_BYTES:
                raise PeerError(f"a header has {len(header)} bytes")  # noqa: TRY301
            message = _decode(header)
            if isinstance(who, WorkerName):
                self._take_from_worker(peer, who, message, (header, payload))
            elif isinstance(who, DriverName):
                self._take_from_driver(peer, who, message, payload)
            else:
                session = self._session(who, who.session_id)
                session.files.take(peer, who, message, (header, payload))
        except (DecodeError, PeerError) as exc:
            self._peers.refuse(peer, str(exc), is_unknown_session=isinstance(exc, UnknownSessionError))
        except Exception as exc:
            log.exception("message_failed peer=%s", lane_names.shown(peer))
            self._peers.refuse(peer, f"the lane met with a fault of its own: {exc!r}")
            if who is not None:
                self._performer.give_up(SessionId(who.session_id), repr(exc))

    def _take_from_driver(
        self, peer: Peer, who: DriverName, message: lane_pb2.LaneMessage, payload: list[zmq.Frame]
    ) -> None:
        greeting = self._greetings.get(peer)
        if greeting is not None:
            greeting.message_count += 1
        match message.WhichOneof("body"):
            case "submit_task":
                self._submit(peer, who, message.submit_task, payload)
            case "received":
                received = message.received
                self._performer.on_received(self._session(who, received.session_id), received.byte_count)
            case "put_blob":
                blob_id = message.put_blob.blob_id
                codec.check_blob_id(blob_id)
                self._session(who, message.put_blob.session_id).blobs.put(blob_id, payload)
            case "cancel_tasks":
                session_id = self._session(who, message.cancel_tasks.session_id).session_id
                task_ids = tuple(map(TaskId, message.cancel_tasks.task_ids))
                self._performer.handle(core.TasksCancelled(session_id, task_ids))
                self._reports.changed.add(session_id)
            case "join":
                join = message.join
                codec.check_version(join.protocol_version, "the driver")
                session_id = codec.check_session(join.session_id, who)
                self._joining.join(
                    peer, session_id, hello_number=join.hello_number, message_count=join.message_count
                )
            case other:
                raise PeerError(f"{other!r} is nothing that a driver says to a lane")

    def _take_from_worker(
        self, peer: Peer, who: WorkerName, message: lane_pb2.LaneMessage, arrived: Message
    ) -> None:
        kind = message.WhichOneof("body")
        if kind == "worker_ready" and self._joining.is_late(peer, who, message.worker_ready.hello_number):
            return
        event = codec.from_worker(kind, message, who, peer)
        if event is not None:
            self._performer.on_worker_event(peer, SessionId(who.session_id), event, arrived)
        elif kind == "get_blob":
            codec.check_blob_id(message.get_blob.blob_id)
            self._session(who, message.get_blob.session_id).blobs.get(peer, message.get_blob.blob_id)
        else:
            raise PeerError(f"{kind!r} is nothing that a worker says to a lane")

    def _session(self, who: PeerName, named_id: int) -> SessionMail:
        """The session that a message names, which must be its sender's, and open."""
        session_id = codec.check_session(named_id, who)
        session = self._sessions.get(session_id)
        if session is None:
            raise UnknownSessionError(session_id)
        return session

    def _submit(
        self, peer: Peer, who: DriverName, task: lane_pb2.SubmitTask, frames: list[zmq.Frame]
    ) -> None:
        task_id = codec.check_submission(task, who)
        session_id = SessionId(task.session_id)
        session = self._joining.find_submitted(session_id, task_id)  # before anything of the task is kept
        if task_id in session.parked:
            return  # done; its driver was away
        submitted = session.recorder.submitted(task.operation, task.blobs, self._now_s)
        try:
            payload = self._payloads.keep(frames, submitted)
        except SpillError as exc:
            log.warning("task_refused session=%d task=%d reason=%s", session_id, task_id, exc)
            failed = codec.task_failed(Lease(session_id, task_id, 0), task.operation, [str(exc)])
            self._peers.send(peer, [failed])
            return
        self._reports.changed.add(session_id)
        actions = self._scheduler.handle(codec.submission(task, peer, payload), self._now_s)
        if actions:
            self._performer.perform(actions)
