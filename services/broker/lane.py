"""A lane: one process, one thread, one poller around one ROUTER and one scheduler.

Translates frames to events and actions to frames; keeps the payloads, which nobody here reads. Ends
when the broker's end of the control socket closes. Payload frames are passed on without a copy.
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

import zmq
from google.protobuf.message import DecodeError

from quakegrid import lane, security
from quakegrid.config import load_settings
from quakegrid.wire.v1 import lane_pb2
from services.broker import lane_events as core
from services.broker.lane_events import Lease, Peer, SessionId, TaskId, WorkerId
from services.broker.scheduler import Scheduler

log = logging.getLogger("quakegrid.lane")
MESSAGES_PER_TURN = 1000
REPORT_INTERVAL_S = 0.2
CONTROL_BYTES = 1 << 16


class Lane:
    """The loop of one lane.

    Args:
        router: bound ROUTER of the lane.
        zap: socket of `lane.open_zap` in the same context.
        control: our end of the broker's control socket.
        client_public: the key that peers must prove.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        zap: zmq.Socket[bytes],
        control: socket.socket,
        client_public: bytes,
    ) -> None:
        self._router, self._zap, self._control = router, zap, control
        self._client_public = client_public
        self._scheduler = Scheduler()
        self._payloads: dict[SessionId, dict[TaskId, list[zmq.Frame]]] = {}
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
            if self._control.fileno() in ready and not self._read_control():
                return
            if self._router in ready:
                self._read_router()
            self._perform(self._scheduler.place(), [])
            self._report()

    def _timeout_ms(self) -> int | None:
        return max(0, int((self._report_s - time.monotonic()) * 1000) + 1) if self._changed else None

    def _read_control(self) -> bool:
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
                self._payloads[session_id] = {}
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

    def _read_router(self) -> None:
        for _ in range(MESSAGES_PER_TURN):
            frames = lane.receive_frames(self._router)
            if frames is None:
                return
            if len(frames) < 2:  # no header
                continue
            peer, header, *payload = frames
            try:
                message = lane_pb2.LaneMessage.FromString(header.bytes)
                event = self._event(Peer(peer.bytes), message, payload)
            except (DecodeError, ValueError) as exc:
                log.warning("message_refused peer=%r reason=%s", peer.bytes, exc)
                continue
            self._perform(self._scheduler.handle(event), [header, *payload])

    def _event(self, peer: Peer, message: lane_pb2.LaneMessage, payload: list[zmq.Frame]) -> core.Event:
        match message.WhichOneof("body"):
            case "submit_task":
                task = message.submit_task
                session_id, task_id = SessionId(task.session_id), TaskId(task.task_id)
                if session_id in self._payloads:
                    self._payloads[session_id][task_id] = payload
                    self._changed.add(session_id)
                return core.TaskSubmitted(
                    session_id, task_id, task.weight, task.operation, peer, task.is_short, task.max_attempts
                )
            case "outcome":
                outcome = message.outcome
                return core.OutcomeArrived(_from_wire(outcome.lease), WorkerId(outcome.worker_id))
            case "worker_ready":
                ready = message.worker_ready
                _check_version(ready.protocol_version, peer)
                session_id, worker_id = SessionId(ready.session_id), WorkerId(ready.worker_id)
                return core.WorkerJoined(session_id, worker_id, ready.node, ready.credit_count, peer)
            case "join":
                _check_version(message.join.protocol_version, peer)
                return core.DriverJoined(SessionId(message.join.session_id), peer)
            case other:
                raise ValueError(f"{other!r} is not for a lane")

    def _perform(self, actions: Iterable[core.Action], arrived: list[zmq.Frame]) -> None:
        """Do what the core decided; `arrived` are the frames of the message that made it decide."""
        for action in actions:
            match action:
                case core.SendTask(peer, lease):
                    header = lane_pb2.LaneMessage(run_task=lane_pb2.RunTask(lease=_to_wire(lease)))
                    payload = self._payloads[lease.session_id][lease.task_id]
                    self._send(peer, [header.SerializeToString(), *payload])
                    self._changed.add(lease.session_id)
                case core.DeliverOutcome(peer, lease):
                    del self._payloads[lease.session_id][lease.task_id]
                    self._send(peer, arrived)
                    self._changed.add(lease.session_id)
                case core.FailTask(peer, lease, operation, reasons):
                    del self._payloads[lease.session_id][lease.task_id]
                    failed = lane_pb2.TaskFailed(lease=_to_wire(lease), operation=operation, reasons=reasons)
                    self._send(peer, [lane_pb2.LaneMessage(task_failed=failed).SerializeToString()])
                    self._changed.add(lease.session_id)
                    self._report_s = 0.0  # the broker counts deaths since the last task that ended
                case core.StopWorker(peer):
                    self._send(peer, [lane_pb2.LaneMessage(stop=lane_pb2.Stop()).SerializeToString()])
                case core.Refuse(peer, reason):
                    refused = lane_pb2.Refused(reason=reason)
                    self._send(peer, [lane_pb2.LaneMessage(refused=refused).SerializeToString()])
                case core.ForgetSession(session_id):
                    del self._payloads[session_id]
                    self._changed.discard(session_id)
                case _ as unreachable:
                    assert_never(unreachable)

    def _send(self, peer: Peer, frames: Sequence[bytes | zmq.Frame]) -> None:
        try:
            lane.send_frames(self._router, [peer, *frames])
        except zmq.ZMQError as exc:
            # The peer is gone; what it held comes back when its agent reports the exit.
            log.warning("peer_unreachable peer=%r reason=%s", peer, exc)

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


def _check_version(version: int, peer: Peer) -> None:
    if version != lane.PROTOCOL_VERSION:
        raise ValueError(f"{peer!r} speaks version {version} of the lanes, we speak {lane.PROTOCOL_VERSION}")


def _from_wire(lease: lane_pb2.Lease) -> Lease:
    return Lease(SessionId(lease.session_id), TaskId(lease.task_id), lease.attempt)


def _to_wire(lease: Lease) -> lane_pb2.Lease:
    return lane_pb2.Lease(session_id=lease.session_id, task_id=lease.task_id, attempt=lease.attempt)


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
    Lane(router, zap, control, security.curve_keys(settings.authkey).client_public).run()
    context.destroy(linger=0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
