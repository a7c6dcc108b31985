"""What the fleet core keeps of a node, a session and a worker.

Pure values that change with the core's events; nobody else changes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.broker import shares


@dataclass(slots=True)
class Node:
    """A machine of the fleet; `core_count` is what we may use of it now, 0 while it is not up."""

    host: str
    limit: int
    name: str = ""
    core_count: int = 0
    state: str = "not reached yet"
    is_refusing: bool = False
    is_leaving: bool = False
    engine_version: str = ""


@dataclass(slots=True)
class Session:
    """One driver's jobs; `failure_count` counts worker deaths since the last task was done.

    `task_count` is None until the session has had a task: it may want every core. `peak_counts` are the
    largest counts of the second before and of this one: a session that has none for a moment keeps its
    cores. `served` grows with each turn on a core, less for a heavy session; `was_served` tells of the last.
    """

    session_id: int
    job_ids: tuple[int, ...]
    is_local: bool
    max_workers: int = 0
    weight: float = 1.0
    is_admitted: bool = False
    failure_count: int = 0
    task_count: int | None = None
    peak_counts: tuple[int, int] = (0, 0)
    busy_worker_ids: frozenset[str] = frozenset()
    served: float = 0.0
    was_served: bool = False
    is_resumed: bool = False
    engine_version: str = ""
    is_refused: bool = False

    def fits(self, node: Node) -> bool:
        """Whether its workers find on the node the engine that they need."""
        return self.engine_version in ("", node.engine_version)

    def wanted_count(self, core_count: int) -> int:
        """Cores that it has tasks for now."""
        count = core_count if self.task_count is None else min(self.task_count, core_count)
        return min(count, self.max_workers or count)

    def claim(self, core_count: int) -> shares.Claim:
        """What it may have, judged by its last two seconds."""
        count = core_count if self.task_count is None else min(max(self.peak_counts), core_count)
        return shares.Claim(min(count, self.max_workers or count), self.weight, self.served)


@dataclass(slots=True)
class Worker:
    """A core in use: whose it is and where."""

    worker_id: str
    session_id: int
    host: str
    is_started: bool = False
    is_draining: bool = False
