"""A lane: one process, one thread, one poller around one ROUTER and one scheduler.

Takes frames in, lets the scheduler decide, sends frames out; what has to be kept meanwhile is with
`Payloads`. Ends when the broker's end of the control socket closes. Large frames are passed on without a
copy.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import assert_never

from google.protobuf.message import DecodeError

from quakegrid import lane, parents, record_files, security, service_logs, shared_memory
from quakegrid.config import load_settings
from quakegrid.curve import zmq
from quakegrid.errors import PeerError
from quakegrid.wire.v1 import lane_pb2
from services.broker import lane_events as core
from services.broker import lane_messages
from services.broker.lane_events import Lease, Peer, SessionId, TaskId, WorkerId
from services.broker.payloads import Frame, Payload, Payloads, SpillError
from services.broker.scheduler import Scheduler
from services.broker.session_mail import Message, SessionMail
from services.broker.task_recorder import Submitted, TaskRecorder

log = logging.getLogger("quakegrid.lane")
MESSAGES_PER_TURN = 1000
REPORT_INTERVAL_S = 0.2
# In place of a lane that died: so long at most it waits for its workers to tell what they run.
SETTLE_S = 1.0


class Lane:
    """The loop of one lane.

    Args:
        router: bound ROUTER of the lane.
        zap: socket of `lane.open_zap` in the same context.
        control: our end of the broker's control socket.
        client_public: the key that peers must prove.
        payloads: where they are kept.
        records: directory of the task records.
        state_dir: of the cluster on this machine.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        zap: zmq.Socket[bytes],
        control: socket.socket,
        client_public: bytes,
        payloads: Payloads,
        records: Path,
        state_dir: Path,
    ) -> None:
        self._router, self._zap, self._control = router, zap, control
        self._client_public = client_public
        self._payloads, self._records = payloads, records
        self._state_dir = state_dir
        self._hello = lane_messages.hello(shared_memory.folder_id(state_dir))
        self._scheduler = Scheduler()
        self._sessions: dict[SessionId, SessionMail] = {}
        # Drivers that brought tasks along, and when they join.
        self._settling: dict[SessionId, tuple[float, Peer]] = {}
        self._changed: set[SessionId] = set()
        self._report_s = 0.0
        self._now_s = time.monotonic()  # at the beginning of this turn: near enough for records

    def run(self) -> None:
        """Serve until the broker goes."""
        poller = zmq.Poller()
        for source in (self._router, self._zap, self._control):
            poller.register(source, zmq.POLLIN)
        while True:
            ready = {source for source, _ in poller.poll(self._timeout_ms())}
            self._now_s = time.monotonic()
            if self._zap in ready:
                lane.answer_zap(self._zap, self._client_public)
            if self._control.fileno() in ready and not self.read_control():
                return
            if self._router in ready:
                self._read_router()
            for session_id, (end_s, peer) in list(self._settling.items()):
                if self._now_s >= end_s or self._sessions[session_id].has_all_workers:
                    self._let_join(session_id, peer)
            self._perform(self._scheduler.place(), [])
            self._report()

    def _timeout_ms(self) -> int | None:
        ends_s = [end_s for end_s, _ in self._settling.values()]
        ends_s += [self._report_s] if self._changed else []
        return max(0, int((min(ends_s) - time.monotonic()) * 1000) + 1) if ends_s else None

    # --- what the broker says

    def read_control(self) -> bool:
        """Take every order that waits; False when the broker is gone."""
        while True:
            try:
                packet = self._control.recv(lane_messages.CONTROL_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except ConnectionResetError:  # the broker went without reading our last report
                return False
            if not packet:
                return False
            self._obey(packet)

    def _obey(self, packet: bytes) -> None:
        message = lane_pb2.ControlMessage.FromString(packet)
        session_id = SessionId(getattr(message, message.WhichOneof("body") or "").session_id)
        event: core.Event
        match message.WhichOneof("body"):
            case "open":
                event = core.SessionOpened(session_id, message.open.max_attempts)
                recorder = TaskRecorder(message.open, self._records)
                self._sessions[session_id] = SessionMail(
                    session_id,
                    shared_memory.folder(self._state_dir) / str(session_id),
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
                lost = message.worker_lost
                event = lane_messages.worker_lost(lost)
                session = self._sessions.get(session_id)
                if session is not None:
                    session.recorder.on_lost(
                        event.worker_id, lost.reason, self._now_s, is_clean=lost.is_clean
                    )
                    if session.driver is None:
                        session.early_worker_ids.add(event.worker_id)
            case "drain":
                event = core.DrainAsked(session_id, WorkerId(message.drain.worker_id))
            case other:
                raise ValueError(f"the broker sent {other!r} to its lane")
        self._changed.add(session_id)
        self._perform(self._scheduler.handle(event), [])

    # --- what drivers and workers say

    def _read_router(self) -> None:
        for number in range(MESSAGES_PER_TURN):
            frames = lane.receive_frames(self._router) if number else lane.receive_announced(self._router)
            if frames is None:
                return
            peer = Peer(frames[0].bytes)
            message = frames[1:]
            if lane.is_probe(message):
                self._greet(peer)
                continue
            try:
                self._take(peer, message)
            except (DecodeError, IndexError, PeerError) as exc:
                log.warning("message_refused peer=%r reason=%s", peer, exc)
                self._send(peer, [lane_messages.refused(str(exc))])

    def _greet(self, peer: Peer) -> None:
        """Say hello to a peer on a new connection; what was on the way before it may have been lost."""
        for session in self._sessions.values():
            session.outcome_counts.pop(peer, None)  # until it has told what it has
        self._send(peer, [self._hello])

    def _take(self, peer: Peer, frames: Message) -> None:
        message = lane_pb2.LaneMessage.FromString(frames[0].bytes)
        event = lane_messages.from_worker(message, peer)
        if event is not None:
            self._take_from_worker(peer, event, frames)
            return
        body = message.WhichOneof("body")
        match body:
            case "submit_task":
                self._submit(peer, message.submit_task, frames[1:])
            case "received":
                self._on_received(message.received)
            case "put_blob":
                self._mail(message.put_blob.session_id).put_blob(message.put_blob.blob_id, frames[1:])
            case "get_blob":
                self._mail(message.get_blob.session_id).get_blob(peer, message.get_blob.blob_id)
            case "cancel_tasks":
                task_ids = tuple(map(TaskId, message.cancel_tasks.task_ids))
                session_id = SessionId(message.cancel_tasks.session_id)
                self._perform(self._scheduler.handle(core.TasksCancelled(session_id, task_ids)), [])
                self._changed.add(session_id)
            case "join":
                self._join(peer, message.join)
            case other:
                raise PeerError(f"{other!r} is not for a lane")

    def _take_from_worker(self, peer: Peer, event: core.Event, frames: Message) -> None:
        assert isinstance(event, core.WorkerEvent)
        session_id = lane_messages.session_of(event)
        session = self._sessions.get(session_id)
        if session is not None:
            self._changed.add(session_id)
            session.count_outcomes(peer, event)
            if session.driver is None:  # which tells its tasks first
                session.keep_early(peer, event, frames)
                return
        actions = self._scheduler.handle(event)
        if session is not None:
            byte_count = sum(map(lane.frame_bytes, frames[1:]))
            session.recorder.on_worker_event(event, actions, peer, byte_count, self._now_s)
        self._perform(actions, frames)

    def _join(self, peer: Peer, join: lane_pb2.Join) -> None:
        lane_messages.check_version(join.protocol_version, "the driver")
        session_id = SessionId(join.session_id)
        session = self._sessions.get(session_id)
        if session is None or session.driver is not None or not self._scheduler.has_tasks(session_id):
            self._let_join(session_id, peer)
            return
        end_s, _ = self._settling.get(session_id, (self._now_s + SETTLE_S, peer))
        self._settling[session_id] = end_s, peer

    def _let_join(self, session_id: SessionId, peer: Peer) -> None:
        self._settling.pop(session_id, None)
        self._perform(self._scheduler.handle(core.DriverJoined(session_id, peer)), [])
        session = self._sessions.get(session_id)
        if session is None:
            return
        session.join(peer)
        early, session.early = session.early, []
        for sender, event, frames in early:
            self._take_from_worker(sender, event, frames)

    def _submit(self, peer: Peer, task: lane_pb2.SubmitTask, frames: Message) -> None:
        session_id, task_id = SessionId(task.session_id), TaskId(task.task_id)
        session = self._sessions.get(session_id)
        if session is not None and task_id in session.flow.parked_ids:
            return  # done; its driver was away
        annex = session and session.recorder.submitted(task.operation, task.blobs, self._now_s)
        try:
            payload = self._payloads.keep(frames, annex)
        except SpillError as exc:
            log.warning("task_refused session=%d task=%d reason=%s", session_id, task_id, exc)
            failed = lane_messages.task_failed(Lease(session_id, task_id, 0), task.operation, [str(exc)])
            self._send(peer, [failed])
            return
        self._changed.add(session_id)
        self._perform(self._scheduler.handle(lane_messages.submission(task, peer, payload)), [])

    def _mail(self, session_id: int) -> SessionMail:
        session = self._sessions.get(SessionId(session_id))
        if session is None:
            raise PeerError(f"session {session_id} is not open on this lane")
        return session

    def _on_received(self, received: lane_pb2.Received) -> None:
        session = self._mail(received.session_id)
        was_full = session.flow.is_full
        session.on_received(received.byte_count)
        if was_full and not session.flow.is_full:
            session_id = SessionId(received.session_id)
            self._perform(self._scheduler.handle(core.DriverFilled(session_id, is_full=False)), [])

    def _deliver(self, peer: Peer, lease: Lease, frames: Message) -> None:
        session = self._sessions[lease.session_id]
        session.deliver(peer, lease, frames)
        if session.flow.is_full:
            self._perform(self._scheduler.handle(core.DriverFilled(lease.session_id, is_full=True)), [])

    # --- what the scheduler decides

    def _perform(self, actions: Iterable[core.Action], arrived: Message) -> None:  # noqa: C901 - a case each
        """Do what the core decided; `arrived` are the frames of the message that made it decide."""
        for action in actions:
            match action:
                case core.SendTask(peer, lease, payload):
                    assert isinstance(payload, Payload)
                    submitted: Submitted = payload.annex
                    session = self._sessions[lease.session_id]
                    session.argument_bytes += payload.byte_count
                    session.recorder.on_sent(peer, lease, submitted, payload.byte_count, self._now_s)
                    count = session.outcome_counts.get(peer, 0)
                    header = lane_messages.run_task(lease, submitted.blobs, count)
                    self._send(peer, [header, *self._payloads.read(payload)])
                    self._changed.add(lease.session_id)
                case core.DeliverOutcome(peer, lease, payload):
                    self._drop(payload)
                    self._deliver(peer, lease, arrived)
                    self._changed.add(lease.session_id)
                case core.TakeBack(peer, lease):
                    self._send(peer, [lane_messages.take_back(lease)])
                case core.FailTask(peer, lease, payload, operation, reasons):
                    self._drop(payload)
                    self._send(peer, [lane_messages.task_failed(lease, operation, reasons)])
                    self._changed.add(lease.session_id)
                    self._report_s = 0.0  # the broker counts deaths since the last task that ended
                case core.TellDeath():
                    self._send(action.peer, [lane_messages.worker_died(action)])
                case core.DropPayloads(payloads):
                    for payload in payloads:
                        self._drop(payload)
                case core.StopWorker(peer, session_id):
                    mail = self._sessions.get(session_id) if session_id is not None else None
                    self._send(peer, [mail.goodbye(peer) if mail else lane_messages.STOP])
                case core.Refuse(peer, reason):
                    self._send(peer, [lane_messages.refused(reason)])
                case core.ForgetSession(session_id):
                    self._forget(session_id)
                case _ as unreachable:
                    assert_never(unreachable)

    def _drop(self, payload: object) -> None:
        assert isinstance(payload, Payload)
        self._payloads.drop(payload)

    def _forget(self, session_id: SessionId) -> None:
        self._sessions.pop(session_id).close()
        self._settling.pop(session_id, None)
        self._changed.discard(session_id)

    def _send(self, peer: Peer, frames: Sequence[Frame]) -> bool:
        try:
            lane.send_frames(self._router, [peer, *frames])
        except zmq.ZMQError as exc:
            # The peer is gone, or will say hello again; a worker's tasks come back with its agent's report.
            log.warning("peer_unreachable peer=%r reason=%s", peer, exc)
            return False
        return True

    def _report(self) -> None:
        """Tell the broker the counters that changed, at most once an interval."""
        if not self._changed or time.monotonic() < self._report_s:
            return
        self._report_s = time.monotonic() + REPORT_INTERVAL_S
        open_ids = self._changed.intersection(self._scheduler.session_ids)
        self._changed.clear()
        for session_id in open_ids:
            self._sessions[session_id].recorder.flush()
            self._tell_counts(session_id)

    def _tell_counts(self, session_id: SessionId) -> None:
        now, session = self._scheduler.counts(session_id), self._sessions[session_id]
        counts = lane_pb2.LaneCounts(
            session_id=session_id,
            queued_count=now.queued_count,
            running_count=now.running_count,
            done_count=now.done_count,
            requeued_count=now.requeued_count,
            failed_count=now.failed_count,
            busy_worker_ids=now.busy_worker_ids,
            argument_bytes=session.argument_bytes,
            result_bytes=session.result_bytes,
        )
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # seen at the next turn
            self._control.send(lane_pb2.ControlMessage(counts=counts).SerializeToString())


def main() -> int:
    """Serve one lane; started by the broker only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    args = parser.parse_args()
    parents.die_with_parent()  # the next broker wants our port
    service_logs.start("%(asctime)s %(name)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the broker decides when we end
    settings = load_settings(args.state_dir)
    control = socket.socket(fileno=args.control_fd)
    endpoint = _wait_for_endpoint(control)
    if not endpoint:
        return 0
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    zap = lane.open_zap(context)
    try:
        router = lane.bind_router(context, endpoint, settings.authkey)
    except zmq.ZMQError as exc:
        ready = lane_pb2.LaneReady(error=f"cannot listen on {endpoint}: {exc}")
        control.send(lane_pb2.ControlMessage(ready=ready).SerializeToString())
        return 1
    with contextlib.suppress(BrokenPipeError):  # the broker has gone already: the end of its messages tells
        control.send(lane_pb2.ControlMessage(ready=lane_pb2.LaneReady()).SerializeToString())
    payloads = Payloads(settings.lane_memory_bytes, settings.custom_tmp or None)
    client_public = security.curve_keys(settings.authkey).client_public
    records = record_files.folder(settings)
    Lane(router, zap, control, client_public, payloads, records, settings.state_dir).run()
    context.destroy(linger=0)
    return 0


def _wait_for_endpoint(control: socket.socket) -> str:
    """Where to listen; empty if the broker goes before it says so."""
    try:
        packet = control.recv(lane_messages.CONTROL_BYTES)
    except ConnectionResetError:
        return ""
    return lane_pb2.ControlMessage.FromString(packet).listen.endpoint


if __name__ == "__main__":
    sys.exit(main())
