"""What the fleet core keeps of a node, a session and a worker.

Pure values that change with the core's events; nobody else changes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from quakegrid.nodes.fingerprint import Fingerprint, differences
from services.broker.fleet import shares

# How long a session without a first task may keep others from cores that it has not used.
UNUSED_S = 30
# How long a worker that was asked to end may take before its core is looked for elsewhere.
DRAIN_PATIENCE_S = 30


@dataclass(slots=True)
class FleetNode:
    """A machine of the fleet; `core_count` is what we may use of it now, 0 while it is not up.

    Where the node's own `cores_per_worker` is more than 1, so many of its cores count as one. `is_lost` after
    its workers were given up, until it is heard of again, for `lost_s` seconds so far. A guest joined: the
    configuration does not name it.
    """

    host: str
    limit: int
    name: str = ""
    core_count: int = 0
    state: str = "not reached yet"
    is_refusing: bool = False
    is_lost: bool = False
    lost_s: int = 0
    is_guest: bool = False
    is_leaving: bool = False
    is_ready: bool = False
    is_serving: bool = True
    cores_per_worker: int = 1
    fingerprint: Fingerprint = field(default_factory=dict)
    older_fingerprints: tuple[Fingerprint, ...] = ()

    @property
    def tells_cores(self) -> bool:
        """Whether `core_count` is what somebody wants it to be, also if that is 0; else it is not known."""
        return self.is_ready or self.is_leaving

    @property
    def is_up(self) -> bool:
        """Whether it can start workers, if it gives cores."""
        return self.is_ready and self.is_serving and not self.is_leaving

    @property
    def title(self) -> str:
        """Its own name, and in brackets that of the configuration if it is another."""
        return self.host if self.name in ("", self.host) else f"{self.name} ({self.host})"


@dataclass(slots=True)
class FleetSession:
    """One driver's jobs; `deaths` counts those of its workers since the last task was done, by host.

    It gets no workers at hosts that are `avoided`: too many died there, the last one of `last_death`.

    `task_count` is None until the session has had a task: it may want every core. `peak_counts` are the
    largest counts of the second before and of this one: a session that has none for a moment keeps its
    cores. `served` grows with each turn on a core, less for a heavy session; `was_served` tells of the last.
    `width` is how many cores a worker of it should have; `core_cap` what it has, when it may have no more.
    `left_out` tells how nodes differ from `fingerprint`. `unused_s` counts the seconds since its admission
    until its first task. Once it is `is_failed`, which its driver was told, it gets no further worker.
    `ahead` are the jobs that it was told to wait for.
    """

    session_id: int
    job_ids: tuple[int, ...]
    is_local: bool
    max_workers: int = 0
    weight: float = 1.0
    is_admitted: bool = False
    deaths: Counter[str] = field(default_factory=Counter)
    last_death: str = ""
    avoided: set[str] = field(default_factory=set)
    task_count: int | None = None
    peak_counts: tuple[int, int] = (0, 0)
    busy_worker_ids: frozenset[str] = frozenset()
    served: float = 0.0
    was_served: bool = False
    is_resumed: bool = False
    is_failed: bool = False
    unused_s: int = 0
    ahead: tuple[int, ...] = ()
    width: int = 1
    core_cap: int | None = None
    fingerprint: Fingerprint = field(default_factory=dict)
    left_out: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def is_idle(self) -> bool:
        """Whether it has held its demand for long and has never had a task: others come first."""
        return self.task_count is None and self.unused_s >= UNUSED_S

    @property
    def may_have_workers(self) -> bool:
        """Whether workers of it should be anywhere."""
        return self.is_admitted and not self.is_local

    def fits(self, node: FleetNode) -> bool:
        """Whether its workers find on the node what they need, and live there."""
        return self.fits_host(node.host)

    def fits_host(self, host: str) -> bool:
        """The same, by the host of the node."""
        return host not in self.left_out and host not in self.avoided

    @property
    def unfit_count(self) -> int:
        """Nodes that it has no use for."""
        return len(self.left_out) + len(self.avoided)

    def forgive(self) -> None:
        """A task of it was done: what died before counts no more."""
        self.deaths.clear()
        self.avoided.clear()

    def compare(self, node: FleetNode) -> tuple[str, ...]:
        """Take in what a node that is up has; how it differs, if that is news.

        One that was upgraded fits while it has a template with the code that the session began with.
        """
        found = tuple(differences(self.fingerprint, node.fingerprint))
        if any(not differences(self.fingerprint, older) for older in node.older_fingerprints):
            found = ()
        known = self.left_out.pop(node.host, ())
        if found:
            self.left_out[node.host] = found
        return found if found != known else ()

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
