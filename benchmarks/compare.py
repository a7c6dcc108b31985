"""Compares what benchmarks measured with the run before: `make bench-compare`.

Each benchmark's newest record of this kind of machine is set beside the newest of another commit. A ratio
above 1 means more of the figure than before. `better` and `worse` need a target, which says what is good,
and a change of more than a tenth. The exit code is 1 if any figure is worse and short of its target.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.support import records
from benchmarks.support.figures import Figure, in_digits
from benchmarks.support.records import Record

# Changes below this are noise of a small machine.
NOISE = 0.1


@dataclass(frozen=True, slots=True)
class Change:
    """A figure of two runs."""

    before: Figure
    now: Figure

    @property
    def ratio(self) -> float:
        """The value by the one before; infinite if there was none of it."""
        if not self.before.value:
            return 1.0 if not self.now.value else math.inf
        return self.now.value / self.before.value

    @property
    def verdict(self) -> str:
        """`better`, `worse` or nothing."""
        has_one_target = (self.now.at_least is None) != (self.now.at_most is None)
        if not has_one_target or abs(self.ratio - 1) <= NOISE:
            return ""
        return "better" if (self.ratio > 1) == (self.now.at_most is None) else "worse"

    def __str__(self) -> str:
        before, now = in_digits(self.before.value), in_digits(self.now.value)
        values = f"{before:>8} {now:>8} {self.now.unit:<5} {self.ratio:5.2f} x"
        return f"{self.now.name:<38.38} {values} {self.verdict}".rstrip()


def pairs(kept: Sequence[Record]) -> Iterator[tuple[Record, Record]]:
    """For each benchmark the record before and the newest one, of different commits.

    Args:
        kept: records of one kind of machine, oldest first.
    """
    for name in sorted({record.benchmark for record in kept}):
        mine = [record for record in kept if record.benchmark == name]
        earlier = [record for record in mine if record.commit != mine[-1].commit]
        if earlier:
            yield earlier[-1], mine[-1]


def changes(before: Record, now: Record) -> list[Change]:
    """Figures that both have, in the order of the newer."""
    had = {figure.name: figure for figure in before.figures}
    return [Change(had[figure.name], figure) for figure in now.figures if figure.name in had]


def main(argv: list[str]) -> int:
    """Print ratios; 1 if something got worse and misses its target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks, such as first; default: all")
    parser.add_argument("--machine", help="kind of machine, as in the files' names; default: this one's")
    asked = parser.parse_args(argv)
    kind = asked.machine or records.this_machine().kind
    kept = [
        record
        for record in records.all_records()
        if record.machine.kind == kind and (not asked.names or record.benchmark in asked.names)
    ]
    found, is_worse = list(pairs(kept)), False
    if not found:
        print(
            f"no benchmark was kept for two commits on this kind of machine ({kind}); see {records.RESULTS}"
        )
    for before, now in found:
        print(f"{now.benchmark}: {before.commit} ({before.at[:10]}) -> {now.commit} ({now.at[:10]})")
        for change in changes(before, now):
            print(f"  {change}")
            is_worse = is_worse or (change.verdict == "worse" and change.now.is_short)
    return int(is_worse)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
