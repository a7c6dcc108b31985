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

STOP = lane_pb2.LaneMessage(stop=lane_pb2.Stop()).SerializeToString()
# A packet between broker and lane: the names of 20,000 busy workers.
CONTROL_BYTES = 400_000
Blobs = Sequence[lane_pb2.BlobRef]


def hello(blob_folder_id: str) -> bytes:
    """The header that greets a peer."""
    greeting = lane_pb2.Hello(protocol_version=lane.PROTOCOL_VERSION, blob_folder_id=blob_folder_id)
    return lane_pb2.LaneMessage(hello=greeting).SerializeToString()


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


def session_of(event: core.WorkerEvent) -> SessionId:
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


def worker_lost(lost: lane_pb2.WorkerLost) -> core.WorkerLost:
    """What the broker tells of a worker that is gone."""
    return core.WorkerLost(
        SessionId(lost.session_id),
        WorkerId(lost.worker_id),
        lost.reason,
        lost.is_clean,
        lost.node,
        tuple(lost.last_output),
        lost.is_blameless,
    )


def worker_died(action: core.TellDeath) -> bytes:
    """The header that tells a driver of a dead worker."""
    lost, leases = action.lost, action.leases
    died = lane_pb2.WorkerDied(
        worker_id=lost.worker_id,
        node=lost.node,
        reason=lost.reason,
        last_output=lost.last_output,
        lease=encode_lease(leases[0]) if leases else None,
        operation=action.operation,
        waiting_count=max(0, len(leases) - 1),
    )
    return lane_pb2.LaneMessage(worker_died=died).SerializeToString()


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


def get_blob(session_id: SessionId, blob_id: bytes) -> bytes:
    """The header that asks a driver for a blob's content."""
    get = lane_pb2.GetBlob(session_id=session_id, blob_id=blob_id)
    return lane_pb2.LaneMessage(get_blob=get).SerializeToString()


def blob(blob_id: bytes) -> bytes:
    """The header of a blob's content."""
    return lane_pb2.LaneMessage(blob=lane_pb2.Blob(blob_id=blob_id)).SerializeToString()
