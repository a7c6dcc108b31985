"""The events of the fleet core and its answers, which are actions.

Frozen values; they know nodes, sessions and workers by name and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quakegrid.nodes.fingerprint import Fingerprint
from quakegrid.nodes.worker_ends import WorkerEnd

# --- events


@dataclass(frozen=True, slots=True)
class NodeReported:
    """A node's agent reported; `state` is for people.

    While the node is not ready, since its template cannot fork, nobody knows how many cores it gives. While
    it is not serving, since people stopped it, it gives none.

    `present` names its workers in the first report after we reached the agent: ends of workers before that
    were not reported. `workers` are all workers with their sessions; unknown ones are an earlier broker's.
    A node that is short of memory has one worker, whatever its cores, so that no job stands still.
    `older_fingerprints` are those of templates with older code, which can fork workers, too.
    """

    host: str
    node: str
    core_count: int
    state: str
    present: frozenset[str] | None = None
    workers: tuple[tuple[str, int], ...] = ()
    fingerprint: Fingerprint = field(default_factory=dict)
    older_fingerprints: tuple[Fingerprint, ...] = ()
    cores_per_worker: int = 1
    is_short_of_memory: bool = False
    is_ready: bool = True
    is_serving: bool = True


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node's agent does not answer; the workers that it had count as lost."""

    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class NodeJoined:
    """A node that the configuration does not name belongs to the fleet; it has yet to report."""

    host: str


@dataclass(frozen=True, slots=True)
class NodeLeaving:
    """A node is to be forgotten when the workers that it has have ended."""

    host: str


@dataclass(frozen=True, slots=True)
class SessionRequested:
    """A driver asks for its turn; a local session wants no workers, `max_workers` 0 is no limit.

    `weight`, > 0, is its part of the cores against the weights of others; `width` how many cores a worker of
    it should have. `resumed` are its workers and their hosts if an earlier broker had admitted it; it has had
    its turn then. `person` is whose session it is, empty if nobody's.
    """

    session_id: int
    job_ids: tuple[int, ...]
    is_local: bool = False
    max_workers: int = 0
    weight: float = 1.0
    resumed: tuple[tuple[str, str], ...] | None = None
    fingerprint: Fingerprint = field(default_factory=dict)
    width: int = 1
    person: str = ""


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session is over, for whatever reason; `is_forced` kills what its workers run."""

    session_id: int
    is_forced: bool


@dataclass(frozen=True, slots=True)
class WorkersStarted:
    """An agent started these workers."""

    worker_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkersRefused:
    """An agent did not start these workers."""

    worker_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkersUnsure:
    """Nobody knows whether an agent started these workers: its first report over a new connection tells.

    Until then they count as started: they may have joined their lane, hold tasks, and end unseen.
    """

    worker_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """A task of the session was done, or given up: its workers can work, if not on that one."""

    session_id: int


@dataclass(frozen=True, slots=True)
class TasksCounted:
    """How many tasks a session has, queued and running, and which of its workers hold one."""

    session_id: int
    task_count: int
    busy_worker_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SecondPassed:
    """About a second went by since the last of these."""


NodeEvent = NodeReported | NodeLost | NodeJoined | NodeLeaving
SessionEvent = SessionRequested | SessionEnded | ProgressMade | TasksCounted
# `WorkerEnd`: a worker's process has ended, as its agent tells.
WorkerEvent = WorkersStarted | WorkersRefused | WorkersUnsure | WorkerEnd
Event = NodeEvent | SessionEvent | WorkerEvent | SecondPassed

# --- actions


@dataclass(frozen=True, slots=True)
class Admit:
    """Let the session submit tasks."""

    session_id: int


@dataclass(frozen=True, slots=True)
class Queue:
    """Tell the session that it waits, and for whom; `reason` if it is another one than its turn."""

    session_id: int
    ahead_job_ids: tuple[int, ...]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StartWorkers:
    """Ask a node's agent for workers under these names, each of so many of the node's cores."""

    host: str
    session_id: int
    worker_ids: tuple[str, ...]
    width: int = 1


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Let a worker end after the task that it holds."""

    session_id: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class StopWorkers:
    """Stop workers of a session on a node: all of them, if no ids are given."""

    host: str
    session_id: int
    is_forced: bool
    worker_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LoseWorker:
    """Tell the session's lane that a worker has ended."""

    end: WorkerEnd


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """Tell the session that a node gets none of its workers, and why."""

    host: str
    session_id: int
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FailSession:
    """End a session whose workers cannot work."""

    session_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class ForgetNode:
    """The node has left: nothing of the fleet is there any more."""

    host: str


DriverAction = Admit | Queue | LeaveOut | FailSession
LaneAction = DrainWorker | LoseWorker
NodeAction = StartWorkers | StopWorkers | ForgetNode
Action = DriverAction | LaneAction | NodeAction
