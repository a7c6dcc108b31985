"""What a lane does with the messages of its peers and the orders of its broker.

Decodes, lets the scheduler decide, and sends; what has to be kept meanwhile is with `Payloads`. Large frames
are passed on without a copy. Receives nothing by itself and waits for nothing: a test can give it anything.
"""

from __future__ import annotations

import contextlib
import logging
import math
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from google.protobuf.message import DecodeError

from quakegrid.blobs import shared_memory
from quakegrid.errors import PeerError
from quakegrid.nodes import worker_end_messages
from quakegrid.transport import credentials, lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.lane_names import DriverName, WorkerName, worker_name
from quakegrid.wire.v1 import lane_pb2
from services.lane import codec
from services.lane import control as lane_control
from services.lane.codec import UnknownSessionError
from services.lane.control import ControlLink
from services.lane.mail import Message, SessionMail
from services.lane.payloads import Frame, Payload, Payloads, SpillError
from services.lane.peers import Peers
from services.lane.records import TaskRecorder
from services.lane.settings import DoorSettings
from services.lane.tasks import events as core
from services.lane.tasks.events import Lease, Peer, SessionId, TaskId, WorkerId
from services.lane.tasks.scheduler import Scheduler

log = logging.getLogger("quakegrid.transport.lane_sockets")
_decode = lane_pb2.LaneMessage.FromString
REPORT_INTERVAL_S = 0.2
# A lane that stands in for one that died waits so long for workers to tell what they run; the wait ends
# when all have told, and is short where the broker knows of none.
SETTLE_S = 10.0
SETTLE_ALONE_S = 1.0


class Door:
    """What a lane does with a message, and at the end of a turn of its loop; it receives nothing by itself.

    Args:
        router: bound ROUTER of the lane, for sending.
        control: our end of the broker's control socket, for sending.
        payloads: where they are kept.
        settings: of the cluster.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        control: socket.socket,
        payloads: Payloads,
        settings: DoorSettings,
    ) -> None:
        self._router, self._payloads, self._settings = router, payloads, settings
        self._hello = codec.hello(shared_memory.folder_id(settings.state_dir))
        self._scheduler = Scheduler()
        self._link = ControlLink(control)
        self._peers = Peers(settings.token_key)
        self._sessions: dict[SessionId, SessionMail] = {}
        # Drivers that brought tasks along, and when they join.
        self._settling: dict[SessionId, tuple[float, Peer]] = {}
        self._changed: set[SessionId] = set()
        self._report_s = 0.0
        self._look_s = 0.0
        self._now_s = time.monotonic()

    def begin_turn(self, now_s: float) -> None:
        """A turn begins; messages follow. Its beginning is near enough for records."""
        self._now_s = now_s

    def finish_turn(self) -> None:
        """All messages of a turn were taken: place tasks, tell the broker."""
        for session_id, (end_s, peer) in list(self._settling.items()) if self._settling else ():
            if self._now_s >= end_s or self._sessions[session_id].has_all_workers:
                with self._contained(session_id):
                    self._let_join(session_id, peer)
        if self._now_s >= self._look_s:
            self._perform(self._scheduler.handle(core.TimePassed(self._now_s)), [])
            self._look_s = self._now_s + self._scheduler.look_interval_s
        self._perform(self._scheduler.place(), [])
        self._report()

    def timeout_ms(self) -> int | None:
        """How long the next turn may wait for messages; None for ever."""
        ends_s = [end_s for end_s, _ in self._settling.values()]
        ends_s += [self._report_s] if self._changed else []
        ends_s += [time.monotonic() + lane_control.RETRY_S] if self._link.is_blocked else []
        ends_s += [self._look_s] if self._look_s < math.inf else []
        return max(0, int((min(ends_s) - time.monotonic()) * 1000) + 1) if ends_s else None

    # --- what the broker says

    def obey(self, packet: bytes) -> None:
        """Take one order of the broker's; a fault of ours ends the session that it names, and no other."""
        message = lane_pb2.ControlMessage.FromString(packet)
        session_id = SessionId(getattr(message, message.WhichOneof("body") or "").session_id)
        with self._contained(session_id):
            self._obey(session_id, message)

    def _obey(self, session_id: SessionId, message: lane_pb2.ControlMessage) -> None:
        event: core.Event
        match message.WhichOneof("body"):
            case "open":
                event = codec.opened(message.open)
                self._look_s = 0.0
                recorder = TaskRecorder(message.open, self._settings.records)
                self._sessions[session_id] = SessionMail(
                    session_id,
                    shared_memory.folder(self._settings.state_dir) / str(session_id),
                    self._payloads,
                    self._send,
                    recorder,
                    message.open.worker_count,
                )
            case "close":
                event = core.SessionClosed(session_id)
                if session_id in self._sessions:
                    self._tell_counts(session_id)  # the last ones
            case "worker_lost":
                event = worker_end_messages.decode(message.worker_lost)
                session = self._sessions.get(session_id)
                if session is not None:
                    token = credentials.worker_token(self._settings.token_key, session_id, event.worker_id)
                    peer = Peer(worker_name(session_id, event.worker_id, token))
                    session.lose_worker(peer, event, self._now_s)
            case "drain":
                event = core.DrainAsked(session_id, WorkerId(message.drain.worker_id))
            case other:
                raise ValueError(f"the broker sent {other!r} to its lane")
        self._changed.add(session_id)
        self._perform(self._scheduler.handle(event), [])

    # --- what drivers and workers say

    def take(self, peer: Peer, frames: Message) -> None:
        """Take one message of a peer, whatever it is.

        One that is wrong is refused in words. A fault of ours ends the session of whoever provoked it, and no
        other.
        """
        who: DriverName | WorkerName | None = None
        try:
            if lane_sockets.is_probe(frames):
                self._greet(peer)
                return
            header = frames[0].bytes
            who = self._peers.known.get(peer) or self._peers.recognise(peer, self._sessions)
            if len(header) > codec.MAX_HEADER_BYTES:
                raise PeerError(f"a header has {len(header)} bytes")  # noqa: TRY301
            message = _decode(header)
            if isinstance(who, WorkerName):
                self._take_from_worker(peer, who, message, frames)
            else:
                self._take_from_driver(peer, who, message, frames)
        except (DecodeError, PeerError) as exc:
            self._refuse(peer, str(exc), is_unknown_session=isinstance(exc, UnknownSessionError))
        except Exception as exc:
            log.exception("message_failed peer=%s", lane_names.shown(peer))
            self._refuse(peer, f"the lane met with a fault of its own: {exc!r}")
            if who is not None:
                self._break(SessionId(who.session_id), repr(exc))

    def _refuse(self, peer: Peer, reason: str, *, is_unknown_session: bool = False) -> None:
        self._peers.count_refusal(peer, reason)
        self._send(peer, [codec.refused(reason, is_unknown_session=is_unknown_session)])

    @contextlib.contextmanager
    def _contained(self, session_id: SessionId) -> Iterator[None]:
        """Let a fault of ours inside of this end one session, and no other."""
        try:
            yield
        except Exception as exc:
            log.exception("session_failed session=%d", session_id)
            self._break(session_id, repr(exc))

    def _break(self, session_id: SessionId, reason: str) -> None:
        """Give up a session: nobody knows what its books are worth now."""
        self._perform(self._scheduler.handle(core.SessionClosed(session_id)), [])
        reason = f"its lane met with a fault of its own: {reason}"
        self._link.tell(("broken", session_id), codec.broken(session_id, reason))

    def _greet(self, peer: Peer) -> None:
        """Say hello to a peer on a new connection; what was on the way before it may have been lost."""
        for session in self._sessions.values():
            session.outcome_counts.pop(peer, None)  # until it has told what it has
        self._send(peer, [self._hello])

    def _take_from_driver(
        self, peer: Peer, who: DriverName, message: lane_pb2.LaneMessage, frames: Message
    ) -> None:
        match message.WhichOneof("body"):
            case "submit_task":
                self._submit(peer, who, message.submit_task, frames[1:])
            case "received":
                self._on_received(self._mail(who, message.received.session_id), message.received)
            case "put_blob":
                blob_id = message.put_blob.blob_id
                codec.check_blob_id(blob_id)
                self._mail(who, message.put_blob.session_id).put_blob(blob_id, frames[1:])
            case "cancel_tasks":
                session_id = self._mail(who, message.cancel_tasks.session_id).session_id
                task_ids = tuple(map(TaskId, message.cancel_tasks.task_ids))
                self._perform(self._scheduler.handle(core.TasksCancelled(session_id, task_ids)), [])
                self._changed.add(session_id)
            case "join":
                codec.check_version(message.join.protocol_version, "the driver")
                self._join(peer, codec.check_session(message.join.session_id, who))
            case other:
                raise PeerError(f"{other!r} is nothing that a driver says to a lane")

    def _take_from_worker(
        self, peer: Peer, who: WorkerName, message: lane_pb2.LaneMessage, frames: Message
    ) -> None:
        event = codec.from_worker(message, who, peer)
        if event is not None:
            self._on_worker_event(peer, SessionId(who.session_id), event, frames)
        elif message.WhichOneof("body") == "get_blob":
            codec.check_blob_id(message.get_blob.blob_id)
            self._mail(who, message.get_blob.session_id).get_blob(peer, message.get_blob.blob_id)
        else:
            raise PeerError(f"{message.WhichOneof('body')!r} is nothing that a worker says to a lane")

    def _on_worker_event(
        self, peer: Peer, session_id: SessionId, event: core.WorkerEvent, frames: Message
    ) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            self._changed.add(session_id)
            session.count_outcomes(peer, event)
            if session.driver is None:  # which tells its tasks first
                session.keep_early(peer, event, frames)
                return
        actions = self._scheduler.handle(event)
        if session is not None:
            byte_count = sum(map(lane_sockets.frame_bytes, frames[1:]))
            session.recorder.on_worker_event(event, actions, peer, byte_count, self._now_s)
        self._perform(actions, frames)

    def _join(self, peer: Peer, session_id: SessionId) -> None:
        session = self._sessions.get(session_id)
        if session is None or session.driver is not None or not self._scheduler.has_tasks(session_id):
            self._let_join(session_id, peer)
            return
        settle_s = SETTLE_S if session.worker_count else SETTLE_ALONE_S
        end_s, _ = self._settling.get(session_id, (self._now_s + settle_s, peer))
        self._settling[session_id] = end_s, peer

    def _let_join(self, session_id: SessionId, peer: Peer) -> None:
        self._settling.pop(session_id, None)
        self._perform(self._scheduler.handle(core.DriverJoined(session_id, peer)), [])
        session = self._sessions.get(session_id)
        if session is None:
            return
        session.join(peer)
        early, unheard = session.take_early()
        for sender, event, frames in early:
            self._on_worker_event(sender, session_id, event, frames)
        for sender in unheard:
            self._greet(sender)

    def _submit(self, peer: Peer, who: DriverName, task: lane_pb2.SubmitTask, frames: Message) -> None:
        task_id = codec.check_submission(task, who)
        session_id = SessionId(task.session_id)
        session = self._sessions.get(session_id)
        if session is None:  # before anything of it is kept
            raise UnknownSessionError(session_id)
        if task_id in session.flow.parked_ids:
            return  # done; its driver was away
        try:
            payload = self._payloads.keep(
                frames, session.recorder.submitted(task.operation, task.blobs, self._now_s)
            )
        except SpillError as exc:
            log.warning("task_refused session=%d task=%d reason=%s", session_id, task_id, exc)
            failed = codec.task_failed(Lease(session_id, task_id, 0), task.operation, [str(exc)])
            self._send(peer, [failed])
            return
        self._changed.add(session_id)
        actions = self._scheduler.handle(codec.submission(task, peer, payload))
        if actions:
            self._perform(actions, [])

    def _mail(self, who: DriverName | WorkerName, named_id: int) -> SessionMail:
        """The session that a message names, which must be its sender's, and open."""
        session_id = codec.check_session(named_id, who)
        session = self._sessions.get(session_id)
        if session is None:
            raise UnknownSessionError(session_id)
        return session

    def _on_received(self, session: SessionMail, received: lane_pb2.Received) -> None:
        was_full = session.flow.is_full
        session.on_received(received.byte_count)
        if was_full and not session.flow.is_full:
            self._perform(self._scheduler.handle(core.DriverFilled(session.session_id, is_full=False)), [])

    def _deliver(self, peer: Peer, lease: Lease, frames: Message) -> None:
        session = self._sessions[lease.session_id]
        session.deliver(peer, lease, frames)
        if session.flow.is_full:
            self._perform(self._scheduler.handle(core.DriverFilled(lease.session_id, is_full=True)), [])

    # --- what the scheduler decides

    def _perform(self, actions: Iterable[core.Action], arrived: Message) -> None:  # noqa: C901, PLR0912
        """Do what the core decided; `arrived` are the frames of the message that made it decide."""
        for action in actions:
            match action:
                case core.SendTask(peer, lease, payload):
                    assert isinstance(payload, Payload)
                    if (session := self._sessions.get(lease.session_id)) is None:
                        continue  # it broke with an action before this one
                    self._changed.add(lease.session_id)
                    try:  # a `_contained` for each task takes time
                        session.send_task(peer, lease, payload, self._now_s)
                    except Exception as exc:
                        log.exception("task_not_sent session=%d", lease.session_id)
                        self._break(lease.session_id, repr(exc))
                case core.DeliverOutcome(peer, lease, payload):
                    self._drop(payload)
                    self._deliver(peer, lease, arrived)
                    self._changed.add(lease.session_id)
                case core.TakeBack(peer, lease):
                    self._send(peer, [codec.take_back(lease)])
                case core.FailTask(peer, lease, payload, operation, reasons):
                    self._drop(payload)
                    self._send(peer, [codec.task_failed(lease, operation, reasons)])
                    self._changed.add(lease.session_id)
                    self._report_s = 0.0  # the broker counts deaths since the last task that ended
                case core.TellDeath():
                    self._send(action.peer, [codec.worker_died(action)])
                case core.DropPayloads(payloads):
                    for payload in payloads:
                        self._drop(payload)
                case core.StopWorker(peer, session_id):
                    mail = self._sessions.get(session_id) if session_id is not None else None
                    self._send(peer, [mail.goodbye(peer) if mail else codec.STOP])
                case core.Refuse(peer, reason, is_unknown_session):
                    self._refuse(peer, reason, is_unknown_session=is_unknown_session)
                case core.KillWorker(session_id, worker_id):
                    packet = codec.overdue(session_id, worker_id)
                    self._link.tell(("overdue", session_id, worker_id), packet)
                case core.ConfirmJoin(peer, session_id):
                    self._send(peer, [codec.joined(session_id)])
                case core.ForgetSession(session_id):
                    self._forget(session_id)
                case _ as unreachable:
                    assert_never(unreachable)

    def _drop(self, payload: object) -> None:
        assert isinstance(payload, Payload)
        self._payloads.drop(payload)

    def _forget(self, session_id: SessionId) -> None:
        self._settling.pop(session_id, None)
        self._changed.discard(session_id)
        self._peers.forget_session(session_id)
        if (session := self._sessions.pop(session_id, None)) is not None:  # else it broke on opening
            session.close()

    def _send(self, peer: Peer, frames: Sequence[Frame]) -> bool:
        try:
            lane_sockets.send_frames(self._router, [peer, *frames])
        except zmq.ZMQError as exc:
            # The peer is gone, or will say hello again; a worker's tasks come back with its agent's report.
            self._peers.count_unsent(peer, exc)
            return False
        return True

    def _report(self) -> None:
        """Tell the broker the counters that changed, at most once an interval."""
        self._link.flush()
        if not self._changed or self._now_s < self._report_s:
            return
        self._report_s = self._now_s + REPORT_INTERVAL_S
        open_ids = self._changed.intersection(self._scheduler.session_ids)
        self._changed.clear()
        for session_id in open_ids:
            self._sessions[session_id].recorder.flush()
            self._tell_counts(session_id)

    def _tell_counts(self, session_id: SessionId) -> None:
        session = self._sessions[session_id]
        traffic = session.argument_bytes, session.result_bytes
        packet = codec.counts(session_id, self._scheduler.counts(session_id), *traffic)
        self._link.tell(("counts", session_id), packet)
