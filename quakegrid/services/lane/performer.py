"""Lets a lane's scheduler decide, and does what it decides.

Owns the sessions of the lane beside their tasks, which the scheduler has. A fault of ours ends the session in
which it shows itself, and no other.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterable, Iterator
from typing import assert_never

from quakegrid.blobs import shared_memory
from quakegrid.services.lane import codec
from quakegrid.services.lane.blobs import SessionBlobs
from quakegrid.services.lane.mail import NOTHING, Message, SessionMail
from quakegrid.services.lane.payloads import Payload, Payloads
from quakegrid.services.lane.peers import Peers
from quakegrid.services.lane.records import TaskRecorder
from quakegrid.services.lane.reports import Reports
from quakegrid.services.lane.settings import DoorSettings
from quakegrid.services.lane.tasks import events as core
from quakegrid.services.lane.tasks.events import Peer, SessionId, WorkerId
from quakegrid.services.lane.tasks.scheduler import Scheduler
from quakegrid.transport import lane_sockets
from quakegrid.transport.lane_names import WorkerName
from quakegrid.wire.v1 import lane_pb2

log = logging.getLogger("quakegrid.lane")


class Performer:
    """What happens on a lane.

    Args:
        peers: whom to send to.
        control: our end of the broker's control socket, for sending.
        payloads: where they are kept.
        settings: of the cluster.
    """

    def __init__(
        self, peers: Peers, control: socket.socket, payloads: Payloads, settings: DoorSettings
    ) -> None:
        self._peers, self._payloads, self._settings = peers, payloads, settings
        self._blob_folder_id = shared_memory.folder_id(settings.state_dir)
        self.scheduler = Scheduler()
        self.sessions: dict[SessionId, SessionMail] = {}  # others only read it
        self.reports = Reports(control, self.scheduler, self.sessions)
        self._changed = self.reports.changed
        self._delivering: set[SessionId] = set()  # sessions with outcomes that are sent by `flush`
        self.now_s = 0.0  # when the turn of the loop began, which is near enough for records

    def handle(self, event: core.Event, arrived: Message = NOTHING) -> None:
        """Give an event to the scheduler, and do what it decides; `arrived` is the message that tells it."""
        self.perform(self.scheduler.handle(event, self.now_s), arrived)

    def on_worker_event(
        self, peer: Peer, session_id: SessionId, event: core.WorkerEvent, arrived: Message
    ) -> None:
        """A worker told something of its tasks; it is kept until the driver has told what they are."""
        session = self.sessions.get(session_id)
        if session is None:
            self.handle(event, arrived)
            return
        self._changed.add(session_id)
        session.count_outcomes(peer, event)
        if session.driver is None:
            session.keep_early(peer, event, arrived)
            return
        actions = self.scheduler.handle(event, self.now_s)
        session.recorder.on_worker_event(
            event, actions, peer, lane_sockets.payload_bytes(arrived[1]), self.now_s
        )
        self.perform(actions, arrived)

    def open(self, order: lane_pb2.OpenLaneSession) -> None:
        """The broker admitted a session on this lane."""
        session_id = SessionId(order.session_id)
        folder = shared_memory.folder(self._settings.state_dir) / str(session_id)
        recorder = TaskRecorder(order, self._settings.records)
        blobs = SessionBlobs(session_id, folder, self._payloads, self._peers.send)
        self.sessions[session_id] = SessionMail(session_id, self._payloads, self._peers.send, recorder, blobs)
        self.handle(codec.opened(order))

    def greet(self, peer: Peer, hello_number: int = 0) -> None:
        """Say hello to a peer on a new connection; what was on the way before it may have been lost.

        Args:
            peer: that is to tell what it has.
            hello_number: it says this back; 0 if it need not.
        """
        for session in self.sessions.values():
            session.outcome_counts.pop(peer, None)  # until it has told what it has
            if session.driver == peer:
                session.hold()
        who = self._peers.known.get(peer)
        if isinstance(who, WorkerName):
            self.handle(core.WorkerGreeted(SessionId(who.session_id), WorkerId(who.worker_id)))
        self._peers.send(peer, [codec.hello(self._blob_folder_id, hello_number)])

    def let_join(self, session_id: SessionId, driver: Peer) -> None:
        """A driver has told its tasks: take what its workers said before, and place them."""
        self.handle(core.DriverJoined(session_id, driver))
        session = self.sessions.get(session_id)
        if session is None:
            return
        session.join(driver)
        early, unheard = session.take_early()
        for peer, event, arrived in early:
            self.on_worker_event(peer, session_id, event, arrived)
        for peer in unheard:
            self.greet(peer)

    @contextlib.contextmanager
    def contained(self, session_id: SessionId) -> Iterator[None]:
        """Let a fault of ours inside of this end one session, and no other."""
        try:
            yield
        except Exception as exc:
            log.exception("session_failed session=%d", session_id)
            self.give_up(session_id, repr(exc))

    def give_up(self, session_id: SessionId, reason: str) -> None:
        """End a session after a fault of ours: nobody knows what its books are worth now."""
        self.handle(core.SessionClosed(session_id))
        self.reports.tell_broken(session_id, reason)

    def on_received(self, session: SessionMail, byte_count: int) -> None:
        """A driver has taken so many bytes of outcomes."""
        was_full = session.is_full
        session.on_received(byte_count)
        if was_full and not session.is_full:
            self.handle(core.DriverFilled(session.session_id, is_full=False))

    def flush(self) -> None:
        """Send the outcomes of this turn to their drivers."""
        delivering, self._delivering = self._delivering, set()
        for session_id in delivering & self.sessions.keys():
            with self.contained(session_id):
                session = self.sessions[session_id]
                session.flush()
                if session.is_full:
                    self.handle(core.DriverFilled(session_id, is_full=True))

    def perform(self, actions: Iterable[core.Action], arrived: Message = NOTHING) -> None:
        """Do what the scheduler decided; `arrived` is the message that made it decide."""
        for action in actions:
            match action:
                case core.SendTask():
                    self._send_task(action)
                case core.DeliverOutcome():
                    self._deliver(action, arrived)
                case core.TakeBack(peer, lease):
                    self._peers.send(peer, [codec.take_back(lease)])
                case core.FailTask():
                    self._fail_task(action)
                case core.DropPayloads(payloads):
                    for payload in payloads:
                        self._drop(payload)
                case _:
                    self._perform_rare(action)

    def _perform_rare(
        self,
        action: core.TellDeath
        | core.StopWorker
        | core.Refuse
        | core.KillWorker
        | core.ConfirmJoin
        | core.ForgetSession,
    ) -> None:
        """Do what concerns a driver, a worker or a session as a whole."""
        match action:
            case core.TellDeath():
                self._peers.send(action.peer, [codec.worker_died(action)])
            case core.StopWorker(peer, session_id):
                session = self.sessions.get(session_id) if session_id is not None else None
                self._peers.send(peer, [session.goodbye(peer) if session else codec.STOP])
            case core.Refuse(peer, reason, is_unknown_session):
                self._peers.refuse(peer, reason, is_unknown_session=is_unknown_session)
            case core.KillWorker(session_id, worker_id):
                self.reports.tell_overdue(session_id, worker_id)
            case core.ConfirmJoin(peer, session_id):
                self._peers.send(peer, [codec.joined(session_id)])
            case core.ForgetSession(session_id):
                self._forget(session_id)
            case _ as unreachable:
                assert_never(unreachable)

    def _send_task(self, action: core.SendTask) -> None:
        peer, lease, payload = action.peer, action.lease, action.payload
        assert isinstance(payload, Payload)
        session_id = lease.session_id
        session = self.sessions.get(session_id)
        if session is None:
            return  # it broke with an action before this one
        self._changed.add(session_id)
        try:  # a `contained` for each task takes time
            session.send_task(peer, lease, payload, self.now_s)
        except Exception as exc:
            log.exception("task_not_sent session=%d", session_id)
            self.give_up(session_id, repr(exc))

    def _deliver(self, action: core.DeliverOutcome, arrived: Message) -> None:
        self._drop(action.payload)
        lease = action.lease
        session = self.sessions[lease.session_id]
        session.deliver(action.peer, lease, arrived)
        self._delivering.add(lease.session_id)
        self._changed.add(lease.session_id)

    def _fail_task(self, action: core.FailTask) -> None:
        self._drop(action.payload)
        lease = action.lease
        failed = codec.task_failed(lease, action.operation, action.reasons)
        session = self.sessions[lease.session_id]
        session.deliver_failure(action.peer, lease.task_id, failed)
        self._delivering.add(lease.session_id)
        self._changed.add(lease.session_id)
        self.reports.hasten()  # the broker counts deaths since the last task that ended

    def _drop(self, payload: object) -> None:
        assert isinstance(payload, Payload)
        self._payloads.drop(payload)

    def _forget(self, session_id: SessionId) -> None:
        self.reports.forget(session_id)
        self._peers.forget_session(session_id)
        if (session := self.sessions.pop(session_id, None)) is not None:  # else it broke on opening
            session.close()
