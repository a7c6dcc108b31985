"""What the scheduler of a lane is told (events) and what it wants done (actions).

Values only. Peers are opaque byte strings, payloads opaque objects that the edge gave. What is made for each
task is a named tuple, or a dataclass that is not frozen: a frozen one costs three times as much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, NewType

from quakegrid.nodes.worker_ends import WorkerEnd

SessionId = NewType("SessionId", int)
TaskId = NewType("TaskId", int)
WorkerId = NewType("WorkerId", str)
Peer = NewType("Peer", bytes)


class Lease(NamedTuple):
    """The right of one worker to deliver the outcome of a task; `attempt` counts from 1."""

    session_id: SessionId
    task_id: TaskId
    attempt: int


# --- events


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """The broker admitted a session on this lane.

    A task may run for `task_timeout_s`, then its worker is killed; infinity is for ever.
    """

    session_id: SessionId
    max_attempts: int
    task_timeout_s: float = math.inf


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session is over: done, aborted, failed or without its driver."""

    session_id: SessionId


@dataclass(frozen=True, slots=True)
class DriverJoined:
    """A driver named the session that it submits to."""

    session_id: SessionId
    peer: Peer


class TaskSubmitted(NamedTuple):
    """A driver submitted a task, perhaps again; heavier tasks start first.

    `expected_s` is what the driver expects it to take: 0 if it does not know, infinity if the task shall be
    alone on its worker. `max_attempts` 0 is the session's.
    """

    session_id: SessionId
    task_id: TaskId
    peer: Peer
    operation: str
    payload: object = None
    weight: float = 1.0
    expected_s: float = 0.0
    max_attempts: int = 0


@dataclass(frozen=True, slots=True)
class TasksCancelled:
    """A driver does not want these tasks any more."""

    session_id: SessionId
    task_ids: tuple[TaskId, ...]


@dataclass(frozen=True, slots=True)
class DriverFilled:
    """The driver takes outcomes more slowly than they come, or has caught up again."""

    session_id: SessionId
    is_full: bool


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker of the session is ready, for the first time or again.

    `held` are the leases that it still has: what it runs, what waits there, and what it sent again.
    """

    session_id: SessionId
    worker_id: WorkerId
    node: str
    peer: Peer
    held: tuple[Lease, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerGreeted:
    """A worker has a new connection, and is about to say what it has.

    A task that is sent before that crosses its word, and would count as lost on the way.
    """

    session_id: SessionId
    worker_id: WorkerId


class OutcomeArrived(NamedTuple):
    """A worker sent all outputs of an attempt; `duration_s` is its wall time there, `usage` the edge's."""

    lease: Lease
    worker_id: WorkerId
    duration_s: float = 0.0
    usage: object = None


@dataclass(slots=True)
class TaskReturned:
    """A worker gave back a task that it had not begun."""

    lease: Lease
    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class DrainAsked:
    """The broker wants the worker to end after what it holds."""

    session_id: SessionId
    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Some time has passed: tasks may have run for too long."""


Event = (
    SessionOpened
    | SessionClosed
    | DriverJoined
    | TaskSubmitted
    | TasksCancelled
    | DriverFilled
    | WorkerGreeted
    | WorkerJoined
    | OutcomeArrived
    | TaskReturned
    | WorkerEnd
    | DrainAsked
    | TimePassed
)

# What concerns a session as a whole.
SessionEvent = SessionOpened | SessionClosed | DriverJoined | TasksCancelled | DriverFilled | TimePassed
# What a worker says of its tasks.
WorkerEvent = OutcomeArrived | TaskReturned | WorkerJoined

# --- actions


@dataclass(slots=True)
class SendTask:
    """Send a task to a worker; its payload stays ours."""

    peer: Peer
    lease: Lease
    payload: object


@dataclass(slots=True)
class TakeBack:
    """Ask a worker to give back a task that it has not begun."""

    peer: Peer
    lease: Lease


@dataclass(slots=True)
class DeliverOutcome:
    """Pass the outcome that just arrived to the driver, and drop the task's payload."""

    peer: Peer
    lease: Lease
    payload: object


@dataclass(frozen=True, slots=True)
class FailTask:
    """Tell the driver that the task will not be tried again, and drop its payload."""

    peer: Peer
    lease: Lease
    payload: object
    operation: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TellDeath:
    """Tell the driver, for its log, that a worker died with these tasks, of which it ran the first."""

    peer: Peer
    end: WorkerEnd
    leases: tuple[Lease, ...]
    operation: str


@dataclass(frozen=True, slots=True)
class DropPayloads:
    """Drop payloads of tasks that are not wanted any more."""

    payloads: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Tell a worker to end after what it holds, and, if a session is given, when its outcomes are here."""

    peer: Peer
    session_id: SessionId | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell a peer that it has no place here, and why; another lane may have one if the session is unknown."""

    peer: Peer
    reason: str
    is_unknown_session: bool = False


@dataclass(frozen=True, slots=True)
class KillWorker:
    """Have a worker killed, whose task has run for longer than it may."""

    session_id: SessionId
    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class ConfirmJoin:
    """Tell a driver that its tasks are placed from now on."""

    peer: Peer
    session_id: SessionId


@dataclass(frozen=True, slots=True)
class ForgetSession:
    """Drop everything of the session; its tasks' payloads are dropped by an action of their own."""

    session_id: SessionId


Action = (
    SendTask
    | TakeBack
    | DeliverOutcome
    | FailTask
    | TellDeath
    | DropPayloads
    | StopWorker
    | Refuse
    | KillWorker
    | ConfirmJoin
    | ForgetSession
)
