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
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import zmq
from google.protobuf.message import DecodeError

from quakegrid import lane, security
from quakegrid.config import load_settings
from quakegrid.errors import PeerError
from quakegrid.wire.v1 import lane_pb2
from services.broker import lane_events as core
from services.broker import lane_messages
from services.broker.lane_events import Lease, Peer, SessionId, TaskId, WorkerId
from services.broker.outcome_flow import OutcomeFlow
from services.broker.payloads import Frame, Payload, Payloads, SpillError
from services.broker.scheduler import Scheduler

log = logging.getLogger("quakegrid.lane")
MESSAGES_PER_TURN = 1000
REPORT_INTERVAL_S = 0.2
CONTROL_BYTES = 1 << 16

Message = list[zmq.Frame]


@dataclass(slots=True)
class _Session:
    """What the edge keeps of a session: its driver's flow, its blobs, and what came too early."""

    driver: Peer | None = None
    flow: OutcomeFlow = field(default_factory=OutcomeFlow)
    blobs: dict[bytes, Payload] = field(default_factory=dict)
    blob_waiters: dict[bytes, list[Peer]] = field(default_factory=dict)
    outcome_counts: dict[Peer, int] = field(default_factory=dict)
    early: list[tuple[Peer, core.Event, Message]] = field(default_factory=list)


class Lane:
    """The loop of one lane.

    Args:
        router: bound ROUTER of the lane.
        zap: socket of `lane.open_zap` in the same context.
        control: our end of the broker's control socket.
        client_public: the key that peers must prove.
        payloads: where they are kept.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        zap: zmq.Socket[bytes],
        control: socket.socket,
        client_public: bytes,
        payloads: Payloads,
    ) -> None:
        self._router, self._zap, self._control = router, zap, control
        self._client_public = client_public
        self._payloads = payloads
        self._scheduler = Scheduler()
        self._sessions: dict[SessionId, _Session] = {}
        self._changed: set[SessionId] = set()
        self._report_s = 0.0

    def run(self) -> None:
        """Serve until the broker goes."""
        poller = zmq.Poller()
        for source in (self._router, self._zap, self._control):
            poller.register(source, zmq.POLLIN)
        while True:
            ready = {source for source, _ in poller.poll(self._timeout_ms())}
            if self._zap in ready:
                lane.answer_zap(self._zap, self._client_public)
            if self._control.fileno() in ready and not self.read_control():
                return
            if self._router in ready:
                self._read_router()
            self._perform(self._scheduler.place(), [])
            self._report()

    def _timeout_ms(self) -> int | None:
        return max(0, int((self._report_s - time.monotonic()) * 1000) + 1) if self._changed else None

    # --- what the broker says

    def read_control(self) -> bool:
        """Take every order that waits; False when the broker is gone."""
        while True:
            try:
                packet = self._control.recv(CONTROL_BYTES, socket.MSG_DONTWAIT)
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
                self._sessions[session_id] = _Session()
            case "close":
                event = core.SessionClosed(session_id)
            case "worker_lost":
                lost = message.worker_lost
                event = core.WorkerLost(session_id, WorkerId(lost.worker_id), lost.reason, lost.is_clean)
            case "drain":
                event = core.DrainAsked(session_id, WorkerId(message.drain.worker_id))
            case other:
                raise ValueError(f"the broker sent {other!r} to its lane")
        self._changed.add(session_id)
        self._perform(self._scheduler.handle(event), [])

    # --- what drivers and workers say

    def _read_router(self) -> None:
        for _ in range(MESSAGES_PER_TURN):
            frames = lane.receive_frames(self._router)
            if frames is None:
                return
            peer = Peer(frames[0].bytes)
            if len(frames) == 2 and not lane.frame_bytes(frames[1]):
                self._send(peer, [lane_messages.HELLO])
                continue
            try:
                self._take(peer, frames[1:])
            except (DecodeError, IndexError, PeerError) as exc:
                log.warning("message_refused peer=%r reason=%s", peer, exc)
                self._send(peer, [lane_messages.refused(str(exc))])

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
                self._on_received(SessionId(message.received.session_id), message.received.byte_count)
            case "put_blob":
                self._put_blob(message.put_blob, frames[1])
            case "get_blob":
                self._get_blob(peer, message.get_blob)
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
        assert isinstance(event, core.OutcomeArrived | core.TaskReturned | core.WorkerJoined)
        session = self._sessions.get(lane_messages.session_of(event))
        if session is not None:
            if session.driver is None:  # which tells its tasks first
                session.early.append((peer, event, frames))
                return
            if type(event) is core.OutcomeArrived:
                session.outcome_counts[peer] = session.outcome_counts.get(peer, 0) + 1
            elif type(event) is core.WorkerJoined:
                session.outcome_counts[peer] = 0
        self._perform(self._scheduler.handle(event), frames)

    def _join(self, peer: Peer, join: lane_pb2.Join) -> None:
        lane_messages.check_version(join.protocol_version, "the driver")
        session_id = SessionId(join.session_id)
        self._perform(self._scheduler.handle(core.DriverJoined(session_id, peer)), [])
        session = self._sessions.get(session_id)
        if session is None:
            return
        session.driver = peer
        session.flow.sent_bytes = 0
        self._send_parked(session_id, session)
        early, session.early = session.early, []
        for sender, event, frames in early:
            self._take_from_worker(sender, event, frames)

    def _submit(self, peer: Peer, task: lane_pb2.SubmitTask, frames: Message) -> None:
        session_id, task_id = SessionId(task.session_id), TaskId(task.task_id)
        session = self._sessions.get(session_id)
        if session is not None and task_id in session.flow.parked_ids:
            return  # done; its driver was away
        try:
            payload = self._payloads.keep(frames, tuple(task.blobs) or None)
        except SpillError as exc:
            log.warning("task_refused session=%d task=%d reason=%s", session_id, task_id, exc)
            failed = lane_messages.task_failed(Lease(session_id, task_id, 0), task.operation, [str(exc)])
            self._send(peer, [failed])
            return
        self._changed.add(session_id)
        self._perform(self._scheduler.handle(lane_messages.submission(task, peer, payload)), [])

    # --- blobs

    def _put_blob(self, put: lane_pb2.PutBlob, content: zmq.Frame) -> None:
        session = self._sessions.get(SessionId(put.session_id))
        if session is None or put.blob_id in session.blobs:
            return
        session.blobs[put.blob_id] = self._payloads.keep([content], is_forced=True)
        for peer in session.blob_waiters.pop(put.blob_id, ()):
            self._send_blob(peer, session, put.blob_id)

    def _get_blob(self, peer: Peer, get: lane_pb2.GetBlob) -> None:
        session = self._sessions.get(SessionId(get.session_id))
        if session is None:
            self._send(peer, [lane_messages.refused(f"session {get.session_id} is not open on this lane")])
        elif get.blob_id in session.blobs:
            self._send_blob(peer, session, get.blob_id)
        else:  # the driver is about to put it again
            session.blob_waiters.setdefault(get.blob_id, []).append(peer)

    def _send_blob(self, peer: Peer, session: _Session, blob_id: bytes) -> None:
        self._send(peer, [lane_messages.blob(blob_id), *self._payloads.read(session.blobs[blob_id])])

    # --- outcomes

    def _deliver(self, peer: Peer, lease: Lease, frames: Message) -> None:
        session = self._sessions[lease.session_id]
        flow, byte_count = session.flow, lane.message_bytes(frames[1:])
        if flow.is_open and self._send(peer, frames):
            flow.sent_bytes += byte_count
            return
        payload = self._payloads.keep(frames[1:], is_forced=True)
        flow.park(lease.task_id, frames[0].bytes, payload, byte_count)
        if flow.is_full:
            self._perform(self._scheduler.handle(core.DriverFilled(lease.session_id, is_full=True)), [])

    def _on_received(self, session_id: SessionId, byte_count: int) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            session.flow.sent_bytes -= byte_count
            self._send_parked(session_id, session)

    def _send_parked(self, session_id: SessionId, session: _Session) -> None:
        assert session.driver is not None
        was_full = session.flow.is_full
        while (parked := session.flow.take()) is not None:
            header, payload = parked
            self._send(session.driver, [header, *self._payloads.read(payload)])
            self._payloads.drop(payload)
        if was_full and not session.flow.is_full:
            self._perform(self._scheduler.handle(core.DriverFilled(session_id, is_full=False)), [])

    # --- what the scheduler decides

    def _perform(self, actions: Iterable[core.Action], arrived: Message) -> None:  # noqa: C901 - a case each
        """Do what the core decided; `arrived` are the frames of the message that made it decide."""
        for action in actions:
            match action:
                case core.SendTask(peer, lease, payload):
                    assert isinstance(payload, Payload)
                    count = self._sessions[lease.session_id].outcome_counts.get(peer, 0)
                    header = lane_messages.run_task(lease, payload.annex or (), count)
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
                case core.DropPayloads(payloads):
                    for payload in payloads:
                        self._drop(payload)
                case core.StopWorker(peer):
                    self._send(peer, [lane_messages.STOP])
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
        session = self._sessions.pop(session_id)
        self._changed.discard(session_id)
        for payload in [*session.blobs.values(), *session.flow.parked_payloads]:
            self._payloads.drop(payload)

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
            now = self._scheduler.counts(session_id)
            counts = lane_pb2.LaneCounts(
                session_id=session_id,
                queued_count=now.queued_count,
                running_count=now.running_count,
                done_count=now.done_count,
                requeued_count=now.requeued_count,
                failed_count=now.failed_count,
                busy_worker_ids=now.busy_worker_ids,
            )
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # seen at the next turn
                self._control.send(lane_pb2.ControlMessage(counts=counts).SerializeToString())


def main() -> int:
    """Serve one lane; started by the broker only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the broker decides when we end
    settings = load_settings(args.state_dir)
    control = socket.socket(fileno=args.control_fd)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    zap = lane.open_zap(context)
    try:
        router = lane.bind_router(context, args.endpoint, settings.authkey)
    except zmq.ZMQError as exc:
        ready = lane_pb2.LaneReady(error=f"cannot listen on {args.endpoint}: {exc}")
        control.send(lane_pb2.ControlMessage(ready=ready).SerializeToString())
        return 1
    control.send(lane_pb2.ControlMessage(ready=lane_pb2.LaneReady()).SerializeToString())
    payloads = Payloads(settings.lane_memory_bytes, settings.custom_tmp or None)
    Lane(router, zap, control, security.curve_keys(settings.authkey).client_public, payloads).run()
    context.destroy(linger=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
