"""Makes the faults of a failing run fewer, as long as it still fails (delta debugging), and tells the story.

The seed stays: it decides the nodes, the calculations and how long everything takes. Only the faults of the
list happen, each at the message or instant that it had.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.simulation import scenarios
from tests.simulation.fabric.faults import FaultKey
from tests.simulation.world import Run, World

# Runs that the search for the shortest list may take.
MOST_RUNS = 400
# Lines of the trace that a story ends with.
LAST_LINES = 12


def replay(seed: int, only: frozenset[FaultKey] | None = None, *, is_thorough: bool = False) -> Run:
    """Run a seed again, exactly as it was, or with some of its faults only."""
    return World(scenarios.draw(seed), only=only, is_thorough=is_thorough).run()


@dataclass(slots=True)
class Shrinking:
    """The search for the fewest faults.

    Args:
        seed: of the run.
        violation: that has to come again; its numbers and names may be others.
    """

    seed: int
    violation: str
    run_count: int = 0

    def shrink(self, keys: Sequence[FaultKey]) -> list[FaultKey]:
        """The fewest of these faults that were found to be enough."""
        kept, part_count = list(keys), 2
        if self._fails([]):
            return []
        while len(kept) >= 2 and self.run_count < MOST_RUNS:
            for fewer in _without_a_part(kept, part_count):
                if self._fails(fewer):
                    kept, part_count = fewer, max(2, part_count - 1)
                    break
                if self.run_count >= MOST_RUNS:
                    break
            else:
                if part_count >= len(kept):
                    break
                part_count = min(len(kept), 2 * part_count)
        return kept

    def _fails(self, keys: Sequence[FaultKey]) -> bool:
        self.run_count += 1
        return subject(replay(self.seed, frozenset(keys)).violation) == subject(self.violation)


def subject(violation: str) -> str:
    """What a violation is about: its words without numbers, names and what follows."""
    first = violation.partition("; its lane has")[0]
    return re.sub(r"[0-9a-f]*\d[0-9a-f.-]*", "#", " ".join(first.split()[:9]))


def _without_a_part(keys: Sequence[FaultKey], part_count: int) -> Iterator[list[FaultKey]]:
    size = -(-len(keys) // part_count)
    for start in range(0, len(keys), size):
        yield [*keys[:start], *keys[start + size :]]


def story(run: Run) -> list[str]:
    """A failing run with the fewest faults, in lines for people."""
    search = Shrinking(run.seed, run.violation)
    kept = search.shrink([fault.key for fault in run.faults])
    last = replay(run.seed, frozenset(kept), is_thorough=True)
    if not last.violation:  # a thorough run looks more often, and may find something else or nothing
        last = replay(run.seed, frozenset(kept))
    scenario = scenarios.draw(run.seed)
    nodes = ", ".join(f"{name} ({count} cores)" for name, count in scenario.cores.items())
    lines = [
        f"seed {run.seed}: {run.violation}",
        f"{len(run.faults)} faults, {len(last.faults)} of them are enough ({search.run_count} runs):",
        f"  the nodes are {nodes}",
    ]
    for start in scenario.starts:
        count = len(start.program.tasks)
        lines.append(
            f"  {start.at_s:8.3f} s  {start.program.name} with {count} tasks begins on {start.machine}"
        )
    lines += [f"  {fault.at_s:8.3f} s  {fault.words}" for fault in last.faults]
    lines.append(f"  {last.end_s:8.3f} s  {last.violation or run.violation}")
    lines += ["the last that happened:", *(f"  {line}" for line in last.trace[-LAST_LINES:])]
    return lines
