"""Runs many seeds, in as many processes as there are cores for them, and adds up what happened."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.support.figures import Figure
from tests.simulation import scenarios
from tests.simulation.fabric.faults import FaultKind
from tests.simulation.world import Run, World

# Seeds that a process takes at once.
AT_ONCE = 10
TEN_MINUTES_S = 600.0


@dataclass(slots=True)
class Total:
    """What many runs had together."""

    run_count: int = 0
    task_count: int = 0
    virtual_s: float = 0.0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    counts: Counter[FaultKind] = field(default_factory=Counter)
    failed: list[Run] = field(default_factory=list)

    def add(self, run: Run) -> None:
        """Count a run."""
        self.run_count += 1
        self.task_count += run.task_count
        self.virtual_s += run.end_s
        self.counts.update(run.counts)
        if run.violation:
            self.failed.append(run)

    def figures(self) -> list[Figure]:
        """What was found, to be kept as benchmarks keep their figures."""
        fault_count = self.counts.total()
        rate = fault_count / self.wall_s * TEN_MINUTES_S
        return [
            Figure("seeds: run", self.run_count, ""),
            Figure("seeds: faults", fault_count, ""),
            Figure("seeds: that broke a promise", len(self.failed), "", at_most=0),
            Figure("seeds: faults in ten minutes", rate, "", at_least=1_000_000),
        ]

    def lines(self) -> Iterator[str]:
        """The sums, for people."""
        fault_count = self.counts.total()
        rate, hours = fault_count / self.wall_s, self.virtual_s / 3600
        yield f"{self.run_count} seeds, {self.task_count} tasks done in {hours:.1f} hours of virtual time;"
        yield f"{fault_count} faults in {self.wall_s:.0f} s: {rate:.0f} a second, {60 * rate:.0f} a minute;"
        yield f"{fault_count / self.cpu_s:.0f} for each second of CPU, of which it had {self.cpu_s:.0f}"
        for kind in FaultKind:
            yield f"  {self.counts[kind]:9d}  {kind.value}"


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def run_seed(seed: int) -> Run:
    """Run one seed."""
    return World(scenarios.draw(seed)).run()


def _run_some(seeds: Sequence[int]) -> tuple[list[Run], float]:
    """Runs, and the seconds of CPU that they took."""
    begin_s = time.process_time()
    return [run_seed(seed) for seed in seeds], time.process_time() - begin_s


def run_all(
    seeds: Iterable[int], process_count: int | None = None, on_run: Callable[[Run], None] = lambda _run: None
) -> Total:
    """Run seeds side by side; `on_run` is called with each run in the order of the seeds."""
    total, begin_s = Total(), time.monotonic()
    wanted = list(seeds)
    parts = [wanted[start : start + AT_ONCE] for start in range(0, len(wanted), AT_ONCE)]
    count = process_count or core_count()
    context: Any = multiprocessing.get_context("spawn")
    with context.Pool(min(count, len(parts))) as pool:
        for runs, cpu_s in pool.imap(_run_some, parts):
            total.cpu_s += cpu_s
            for run in runs:
                total.add(run)
                on_run(run)
    total.wall_s = time.monotonic() - begin_s
    return total
