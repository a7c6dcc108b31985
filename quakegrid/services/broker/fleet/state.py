"""What the fleet core keeps of a node, a session and a worker, and which states follow which.

Pure values that change with the core's events; nobody else changes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from quakegrid.errors import IllegalMoveError
from quakegrid.nodes.fingerprint import Fingerprint, differences
from quakegrid.services.broker.fleet.placing import shares

# How long a session without a first task may keep others from cores that it has not used.
UNUSED_S = 30
# How long a worker that was asked to end may take before its core is looked for elsewhere.
DRAIN_PATIENCE_S = 30

# A person's name; the id of a session that belongs to nobody, and counts as a person of its own.
Person = str | int


@dataclass(frozen=True, slots=True)
class PersonLimits:
    """What one person may have at once: sessions with jobs that execute, and cores; 0 for no limit."""

    max_jobs: int = 0
    max_cores: int = 0


NO_LIMITS = PersonLimits()


class NodePhase(Enum):
    """Where a node is in its life with the fleet."""

    # Its agent has not reported since the node was named, or since it joined again.
    AWAITED = "awaited"
    # Its template cannot fork, so nobody knows how many cores the node gives.
    LOADING = "loading"
    # People stopped it: it gives no cores.
    STOPPED = "stopped"
    UP = "up"
    # Its agent does not answer; its workers were given up.
    LOST = "lost"
    # It is forgotten when it has no workers any more.
    LEAVING = "leaving"


class SessionPhase(Enum):
    """Where a session is in its life."""

    # It waits for its turn to execute.
    QUEUED = "queued"
    EXECUTING = "executing"
    # Its driver was told so; it gets no further worker.
    FAILED = "failed"


Phase = NodePhase | SessionPhase

_REPORTED = frozenset({NodePhase.LOADING, NodePhase.STOPPED, NodePhase.UP})
_ANYWHERE = _REPORTED | {NodePhase.LOST, NodePhase.LEAVING}
# The legal moves. A phase may always stay as it is.
MOVES: Mapping[Phase, frozenset[Phase]] = {
    NodePhase.AWAITED: _ANYWHERE,
    NodePhase.LOADING: _ANYWHERE,
    NodePhase.STOPPED: _ANYWHERE,
    NodePhase.UP: _ANYWHERE,
    NodePhase.LOST: _REPORTED | {NodePhase.LEAVING},
    NodePhase.LEAVING: frozenset({NodePhase.AWAITED}),
    SessionPhase.QUEUED: frozenset({SessionPhase.EXECUTING}),
    SessionPhase.EXECUTING: frozenset({SessionPhase.FAILED}),
    SessionPhase.FAILED: frozenset(),
}


def check_move(who: str, before: Phase, after: Phase) -> None:
    """Raise `IllegalMoveError` unless the table has this move."""
    if after is not before and after not in MOVES[before]:
        raise IllegalMoveError(f"{who} cannot become {after.value}: it is {before.value}")


@dataclass(slots=True)
class FleetNode:
    """A machine of the fleet.

    `limit` is the configuration's number of cores, -1 for all. `core_count` is what the fleet may use of the
    node now, 0 while the node is not up; where the node's own `cores_per_worker` is more than 1, so many of
    its cores count as one. `state` is for people. A refusing node did not start workers when asked, and is
    asked again at its next report or in the next second. `lost_s` counts seconds since the node was lost. A
    guest joined: the configuration does not name it. `is_compared` says that every session was compared with
    the node as it is now.
    """

    host: str
    limit: int
    name: str = ""
    core_count: int = 0
    state: str = "not reached yet"
    phase: NodePhase = NodePhase.AWAITED
    is_refusing: bool = False
    lost_s: int = 0
    is_guest: bool = False
    cores_per_worker: int = 1
    fingerprint: Fingerprint = field(default_factory=dict)
    older_fingerprints: tuple[Fingerprint, ...] = ()
    is_compared: bool = False

    def move_to(self, phase: NodePhase) -> None:
        """Change the phase.

        Raises:
            IllegalMoveError: a node cannot go from its phase to this one.
        """
        check_move(f"node {self.host}", self.phase, phase)
        self.phase = phase

    @property
    def is_ready(self) -> bool:
        """Whether its template can fork workers, as far as the node was heard last."""
        return self.phase in (NodePhase.UP, NodePhase.STOPPED)

    @property
    def is_leaving(self) -> bool:
        """Whether the node is to be forgotten."""
        return self.phase is NodePhase.LEAVING

    @property
    def is_up(self) -> bool:
        """Whether it can start workers, if it gives cores."""
        return self.phase is NodePhase.UP

    @property
    def tells_cores(self) -> bool:
        """Whether `core_count` is what somebody wants it to be, also if that is 0; else it is not known."""
        return self.is_ready or self.is_leaving

    @property
    def title(self) -> str:
        """Its own name, and in brackets that of the configuration if it is another."""
        return self.host if self.name in ("", self.host) else f"{self.name} ({self.host})"


@dataclass(slots=True)
class FleetSession:
    """One driver's jobs.

    Args:
        session_id: unique in the life of a fleet.
        job_ids: the jobs that the driver runs; a session without jobs has no turn to wait for.
        is_local: it wants no workers.
        max_workers: how many workers it may have; 0 is no limit.
        weight: its part of the cores against the weights of others.
        phase: where it is in its life.
        deaths: of its workers since its last task was done, by host.
        last_death: the reason of the last of these.
        avoided: hosts where it gets no workers, since too many died there.
        excused_count: of its workers that ended for no fault of its tasks, since its last task was done.
        task_count: queued and running tasks; None until the session has had a task: it may want every core.
        peak_counts: the largest task counts of the second before and of this one. A session that has no task
            for a moment keeps its cores.
        busy_worker_ids: its workers that hold a task, as its lane tells.
        strange_s: those of them that the fleet does not have, and for how many seconds.
        served: grows with each turn on a core, less for a heavy session.
        was_served: whether it had a core in the last turn.
        is_resumed: an earlier broker had admitted it.
        unused_s: seconds since its admission without a first task.
        ahead: the jobs that it was told to wait for.
        wait_reason: why it was told to wait, if not for its turn behind others.
        width: how many cores a worker of it should have.
        core_cap: the cores that it has, when it may have no more; None for no cap.
        fingerprint: what its nodes must have.
        left_out: how nodes differ from that, by host.
        fit_version: grows whenever a node begins or ceases to fit.
        person: whose session it is; empty if nobody's.
    """

    session_id: int
    job_ids: tuple[int, ...]
    is_local: bool
    max_workers: int = 0
    weight: float = 1.0
    phase: SessionPhase = SessionPhase.QUEUED
    deaths: Counter[str] = field(default_factory=Counter)
    excused_count: int = 0
    last_death: str = ""
    avoided: set[str] = field(default_factory=set)
    task_count: int | None = None
    peak_counts: tuple[int, int] = (0, 0)
    busy_worker_ids: frozenset[str] = frozenset()
    strange_s: dict[str, int] = field(default_factory=dict)
    served: float = 0.0
    was_served: bool = False
    is_resumed: bool = False
    unused_s: int = 0
    ahead: tuple[int, ...] = ()
    wait_reason: str = ""
    width: int = 1
    core_cap: int | None = None
    fingerprint: Fingerprint = field(default_factory=dict)
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fit_version: int = 0
    person: str = ""

    def move_to(self, phase: SessionPhase) -> None:
        """Change the phase.

        Raises:
            IllegalMoveError: a session cannot go from its phase to this one.
        """
        check_move(f"session {self.session_id}", self.phase, phase)
        self.phase = phase

    @property
    def owner(self) -> Person:
        """Whose session it is, or its own id if it is nobody's."""
        return self.person or self.session_id

    @property
    def is_admitted(self) -> bool:
        """Whether its turn has come, also if it has failed since."""
        return self.phase is not SessionPhase.QUEUED

    @property
    def is_failed(self) -> bool:
        """Whether it gets no further worker."""
        return self.phase is SessionPhase.FAILED

    @property
    def is_idle(self) -> bool:
        """Whether it has waited long for its first task: sessions with tasks get cores before it."""
        return self.task_count is None and self.unused_s >= UNUSED_S

    @property
    def may_have_workers(self) -> bool:
        """Whether workers of it should be anywhere."""
        return self.is_admitted and not self.is_local

    def fits(self, node: FleetNode) -> bool:
        """Whether its workers find on the node what they need, and did not die there again and again."""
        return node.host not in self.left_out and node.host not in self.avoided

    @property
    def unfit_count(self) -> int:
        """Nodes that it has no use for."""
        return len(self.left_out) + len(self.avoided)

    def forgive(self) -> None:
        """Forget deaths of workers, since a task of the session was done."""
        self.deaths.clear()
        self.excused_count = 0
        if self.avoided:
            self.avoided.clear()
            self.fit_version += 1

    def avoid(self, host: str) -> None:
        """Have no more workers on a node, where too many died."""
        self.avoided.add(host)
        self.fit_version += 1

    def try_again(self, host: str) -> None:
        """Avoid a node no more: its agent may be another."""
        if host in self.avoided:
            self.avoided.remove(host)
            self.fit_version += 1

    def forget_node(self, host: str) -> None:
        """Nothing is known any more of a node that has left."""
        self.try_again(host)
        if self.left_out.pop(host, None) is not None:
            self.fit_version += 1

    def compare(self, node: FleetNode) -> tuple[str, ...]:
        """Compare the session's fingerprint with a node that is up.

        A node that was upgraded fits while it has a template with the code that the session began with.

        Returns:
            How the node differs, if that is news; else nothing.
        """
        found = tuple(differences(self.fingerprint, node.fingerprint))
        if any(not differences(self.fingerprint, older) for older in node.older_fingerprints):
            found = ()
        known = self.left_out.pop(node.host, ())
        if found:
            self.left_out[node.host] = found
        self.fit_version += bool(found) is not bool(known)
        return found if found != known else ()

    def count_tasks(self, task_count: int, busy_worker_ids: frozenset[str], core_count: int) -> bool:
        """Take in how many tasks it has; returns whether that changes what it wants.

        Args:
            task_count: queued and running.
            busy_worker_ids: its workers that hold a task.
            core_count: of the fleet.
        """
        before = self.is_idle, self.wanted_count(core_count), self.demand(core_count)
        last, peak = self.peak_counts
        if self.task_count is None:  # more may follow the first
            peak = core_count
        self.task_count, self.busy_worker_ids = task_count, busy_worker_ids
        self.peak_counts = last, max(peak, task_count)
        return before != (self.is_idle, self.wanted_count(core_count), self.demand(core_count))

    def pass_second(self) -> None:
        """About a second went by."""
        self.peak_counts = self.peak_counts[1], self.task_count or 0
        self.unused_s += self.is_admitted and self.task_count is None

    def wanted_count(self, core_count: int) -> int:
        """Cores that it has tasks for now."""
        return self._bounded(core_count, self.task_count)

    def demand(self, core_count: int) -> shares.Demand:
        """What it may have, judged by its last two seconds."""
        task_count = None if self.task_count is None else max(self.peak_counts)
        return shares.Demand(self._bounded(core_count, task_count), self.weight, self.served)

    def _bounded(self, core_count: int, task_count: int | None) -> int:
        if self.is_failed:
            return 0
        bounds = [core_count]
        if task_count is not None:
            bounds.append(task_count * self.width)
        if self.max_workers:
            bounds.append(self.max_workers * self.width)
        if self.core_cap is not None:
            bounds.append(self.core_cap)
        return min(bounds)


@dataclass(slots=True)
class FleetWorker:
    """Cores in use: whose they are and where; `leaving_s` counts the seconds since it was to end."""

    worker_id: str
    session_id: int
    host: str
    is_started: bool = False
    is_draining: bool = False
    core_count: int = 1
    leaving_s: int = 0

    @property
    def is_stuck(self) -> bool:
        """Whether it was asked to end long ago and still has its cores: a long call keeps it."""
        return self.leaving_s >= DRAIN_PATIENCE_S


def count_cores(workers: Iterable[FleetWorker]) -> int:
    """Cores of these workers."""
    return sum(worker.core_count for worker in workers)
