"""Between the frames of a lane and the scheduler's events and actions: encoding and decoding only.

Raises `PeerError` for what no peer of ours sends.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from quakegrid import lane
from quakegrid.errors import PeerError
from quakegrid.wire.v1 import lane_pb2
from services.broker import lane_events as core
from services.broker.lane_events import Lease, Peer, SessionId, TaskId, WorkerId
from services.broker.task_recorder import Usage

HELLO = lane_pb2.LaneMessage(hello=lane_pb2.Hello(protocol_version=lane.PROTOCOL_VERSION)).SerializeToString()
STOP = lane_pb2.LaneMessage(stop=lane_pb2.Stop()).SerializeToString()
Blobs = Sequence[lane_pb2.BlobRef]


def from_worker(message: lane_pb2.LaneMessage, peer: Peer) -> core.Event | None:
    """What a worker tells; None if it is not a worker's message."""
    match message.WhichOneof("body"):
        case "outcome":
            outcome = message.outcome
            usage = Usage(outcome.load_s, outcome.peak_memory_bytes)
            worker_id = WorkerId(outcome.worker_id)
            return core.OutcomeArrived(decode_lease(outcome.lease), worker_id, outcome.duration_s, usage)
        case "task_returned":
            returned = message.task_returned
            return core.TaskReturned(decode_lease(returned.lease), WorkerId(returned.worker_id))
        case "worker_ready":
            ready = message.worker_ready
            check_version(ready.protocol_version, f"worker {ready.worker_id} on {ready.node}")
            return core.WorkerJoined(
                SessionId(ready.session_id),
                WorkerId(ready.worker_id),
                ready.node,
                peer,
                tuple(map(decode_lease, ready.held)),
            )
    return None


def session_of(event: core.OutcomeArrived | core.TaskReturned | core.WorkerJoined) -> SessionId:
    """The session that a worker's event belongs to."""
    return event.session_id if isinstance(event, core.WorkerJoined) else event.lease.session_id


def submission(task: lane_pb2.SubmitTask, peer: Peer, payload: object) -> core.TaskSubmitted:
    """What a driver submits; values that many tasks share are kept once, for there may be a million.

    A weight that cannot be one is 1, an expectation that cannot be one is none.
    """
    return core.TaskSubmitted(
        SessionId(task.session_id),
        TaskId(task.task_id),
        peer,
        sys.intern(task.operation),
        payload,
        task.weight if 0 < task.weight < math.inf and task.weight != 1.0 else 1.0,
        task.expected_s if task.expected_s > 0 else 0.0,
        task.max_attempts,
    )


def check_version(version: int, who: str) -> None:
    """Refuse a peer of another version of the protocol."""
    if version != lane.PROTOCOL_VERSION:
        raise PeerError(
            f"{who} speaks version {version} of the lanes and this lane version {lane.PROTOCOL_VERSION}; "
            "install the same QuakeGrid on all machines"
        )


def decode_lease(lease: lane_pb2.Lease) -> Lease:
    """A lease from the wire."""
    return Lease(SessionId(lease.session_id), TaskId(lease.task_id), lease.attempt)


def encode_lease(lease: Lease) -> lane_pb2.Lease:
    """A lease for the wire."""
    return lane_pb2.Lease(session_id=lease.session_id, task_id=lease.task_id, attempt=lease.attempt)


def run_task(lease: Lease, blobs: Blobs, outcome_count: int) -> bytes:
    """The header that gives a task to a worker."""
    run = lane_pb2.RunTask(lease=encode_lease(lease), blobs=blobs, outcome_count=outcome_count)
    return lane_pb2.LaneMessage(run_task=run).SerializeToString()


def take_back(lease: Lease) -> bytes:
    """The header that asks for a task."""
    return lane_pb2.LaneMessage(take_back=lane_pb2.TakeBack(lease=encode_lease(lease))).SerializeToString()


def drain(outcome_count: int) -> bytes:
    """The message that lets a worker end when its outcomes have come; so many have."""
    stop = lane_pb2.Stop(is_drain=True, outcome_count=outcome_count)
    return lane_pb2.LaneMessage(stop=stop).SerializeToString()


def task_failed(lease: Lease, operation: str, reasons: Sequence[str]) -> bytes:
    """The header that gives up a task."""
    failed = lane_pb2.TaskFailed(lease=encode_lease(lease), operation=operation, reasons=reasons)
    return lane_pb2.LaneMessage(task_failed=failed).SerializeToString()


def refused(reason: str) -> bytes:
    """The header that sends a peer away."""
    return lane_pb2.LaneMessage(refused=lane_pb2.Refused(reason=reason)).SerializeToString()


def blob(blob_id: bytes) -> bytes:
    """The header of a blob's content."""
    return lane_pb2.LaneMessage(blob=lane_pb2.Blob(blob_id=blob_id)).SerializeToString()
