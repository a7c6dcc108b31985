"""The tasks of a session and their outcomes, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.lane_sockets import JoinedFrame
from quakegrid.wire.v1 import lane_pb2


@dataclass(frozen=True, slots=True)
class LaneOutcome:
    """The outcome of a task: its frames, or why there are none.

    `reasons` has a line for each worker that the task ended, when it is not tried again.
    """

    task_id: int
    frames: Sequence[zmq.Frame | JoinedFrame]
    error: str
    duration_s: float = 0.0
    worker_id: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaneTask:
    """The facts on a task that the lane needs; see `SubmitTask` of the protocol."""

    operation: str
    weight: float = 1.0
    expected_s: float = 0.0
    max_attempts: int = 0


def failed_outcome(failed: lane_pb2.TaskFailed) -> LaneOutcome:
    """The outcome of a task that was given up."""
    lease, reasons = failed.lease, tuple(failed.reasons)
    if lease.attempt == 0:
        return LaneOutcome(lease.task_id, (), f"task {lease.task_id} ({failed.operation}): {reasons[0]}")
    error = (
        f"task {lease.task_id} ({failed.operation}) ended its worker {len(reasons)} times "
        f"and is not tried again: {'; '.join(reasons)}"
    )
    return LaneOutcome(lease.task_id, (), error, reasons=reasons)
