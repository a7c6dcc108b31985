"""The memory rules: when a node gets no new tasks, and which worker is stopped.

Pure: takes samples, returns the workers to stop. Does not depend on how memory is measured. The broker is
    told
`is_short`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

# The node has memory again when it is below the soft limit by so much, so that it does not change all the
# time.
MARGIN_PERCENT = 5.0
# A worker that has less memory of its own is not stopped, since that would not help.
LEAST_STOP_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """The memory of a worker and the processes that it started.

    `own_bytes` leaves out the memory that it shares with files, other workers and the template.
    """

    name: str
    session_id: int
    resident_bytes: int
    own_bytes: int


@dataclass(frozen=True, slots=True)
class NodeMemory:
    """The memory of a node, `total_bytes` > 0, and of its workers."""

    used_bytes: int
    total_bytes: int
    workers: tuple[WorkerMemory, ...] = ()

    @property
    def percent(self) -> float:
        """Which part of the memory is used."""
        return 100 * self.used_bytes / self.total_bytes


@dataclass(frozen=True, slots=True)
class WorkerToStop:
    """Kill a worker, for this reason."""

    name: str
    reason: str


@dataclass(slots=True)
class MemoryRules:
    """The rules for one node's memory.

    Args:
        node: its name, for reasons.
        soft_percent: from this part on the node gets no new tasks.
        hard_percent: above this part the largest worker of the session that uses most is stopped, one at a
            time.
        worker_bytes: the memory that a worker may have of its own, 0 for no limit.
    """

    node: str
    soft_percent: float
    hard_percent: float
    worker_bytes: int = 0
    is_short: bool = False
    _stopped: set[str] = field(init=False, default_factory=set)

    def handle(self, memory: NodeMemory) -> list[WorkerToStop]:
        """Take a sample; returns the workers to stop."""
        threshold = self.soft_percent - (MARGIN_PERCENT if self.is_short else 0.0)
        self.is_short = memory.percent >= threshold
        self._stopped &= {worker.name for worker in memory.workers}
        stops = [
            WorkerToStop(
                worker.name,
                f"stopped at {in_words(worker.own_bytes)} of its own, more than [agent] worker_memory allows "
                f"({in_words(self.worker_bytes)})",
            )
            for worker in memory.workers
            if 0 < self.worker_bytes < worker.own_bytes and worker.name not in self._stopped
        ]
        self._stopped |= {stop.name for stop in stops}
        # Another worker is stopped only after the memory of the last one is free.
        largest = _largest_of_greediest(memory.workers) if not self._stopped else None
        if largest is not None and memory.percent > self.hard_percent:
            self._stopped.add(largest.name)
            reason = (
                f"stopped at {in_words(largest.resident_bytes)} resident because {self.node}'s memory was at "
                f"{memory.percent:.0f} % (hard_mem_limit {self.hard_percent:.0f})"
            )
            stops.append(WorkerToStop(largest.name, reason))
        return stops


def in_words(size_bytes: int) -> str:
    """A size as a reason gives it, such as "14.2 GiB"."""
    return f"{size_bytes / 2**30:.1f} GiB" if size_bytes >= 1 << 30 else f"{size_bytes / 2**20:.0f} MiB"


def _largest_of_greediest(workers: tuple[WorkerMemory, ...]) -> WorkerMemory | None:
    """The largest worker of the session that uses most memory, if stopping it would help."""
    totals: Counter[int] = Counter()
    for worker in workers:
        totals[worker.session_id] += worker.own_bytes
    helping = [worker for worker in workers if worker.own_bytes >= LEAST_STOP_BYTES]
    return max(helping, key=lambda worker: (totals[worker.session_id], worker.own_bytes), default=None)
