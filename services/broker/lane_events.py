"""What the scheduler of a lane is told (events) and what it wants done (actions).

Values only. Peers are opaque byte strings that the edge gave.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

SessionId = NewType("SessionId", int)
TaskId = NewType("TaskId", int)
WorkerId = NewType("WorkerId", str)
Peer = NewType("Peer", bytes)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one worker to deliver the outcome of a task; `attempt` counts from 1."""

    session_id: SessionId
    task_id: TaskId
    attempt: int


# --- events


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """The broker admitted a session on this lane."""

    session_id: SessionId
    max_attempts: int


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session is over: done, aborted, failed or without its driver."""

    session_id: SessionId


@dataclass(frozen=True, slots=True)
class DriverJoined:
    """A driver named the session that it submits to."""

    session_id: SessionId
    peer: Peer


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """A driver submitted a task; heavier tasks start first; `max_attempts` 0 is the session's."""

    session_id: SessionId
    task_id: TaskId
    weight: float
    operation: str
    peer: Peer
    is_short: bool = False
    max_attempts: int = 0


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker of the session is ready to hold `credit_count` short tasks, or one that is not."""

    session_id: SessionId
    worker_id: WorkerId
    node: str
    credit_count: int
    peer: Peer


@dataclass(frozen=True, slots=True)
class OutcomeArrived:
    """A worker sent all outputs of an attempt."""

    lease: Lease
    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker's process ended; `reason` is for people."""

    session_id: SessionId
    worker_id: WorkerId
    reason: str
    is_clean: bool


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """The broker wants the worker to end after what it holds."""

    session_id: SessionId
    worker_id: WorkerId


Event = (
    SessionOpened
    | SessionClosed
    | DriverJoined
    | TaskSubmitted
    | WorkerJoined
    | OutcomeArrived
    | WorkerLost
    | DrainAsked
)

# --- actions


@dataclass(frozen=True, slots=True)
class SendTask:
    """Send the payload of the lease's task to a worker."""

    peer: Peer
    lease: Lease


@dataclass(frozen=True, slots=True)
class DeliverOutcome:
    """Pass the outcome that just arrived to the driver, and drop the task's payload."""

    peer: Peer
    lease: Lease


@dataclass(frozen=True, slots=True)
class FailTask:
    """Tell the driver that the task will not be tried again, and drop its payload."""

    peer: Peer
    lease: Lease
    operation: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Tell a worker to end after what it holds."""

    peer: Peer


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell a peer that it has no place here, and why."""

    peer: Peer
    reason: str


@dataclass(frozen=True, slots=True)
class ForgetSession:
    """Drop every payload of the session."""

    session_id: SessionId


Action = SendTask | DeliverOutcome | FailTask | StopWorker | Refuse | ForgetSession
