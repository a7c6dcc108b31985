"""How much work was done under faults against undisturbed: a pure function of what ran when.

Programs differ in size, so they are not counted: each is worth the seconds that one of its kind takes
undisturbed, and what overlaps with the faults counts by its part. A program that was killed on purpose counts
once, when it is done, however often it was begun. 1.0 means that faults cost no time at all.

Each row alone is measured in the same way. Rows that do the same work in turns should come equally far over
some minutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

ENOUGH = 0.5
# Of the work of an average row; programs are long, so a row that had its part may be one behind.
FAIR = 0.5


@dataclass(frozen=True, slots=True)
class Span:
    """One program that ran, in its row, from when until when."""

    kind: str
    row: int
    start_s: float
    end_s: float
    is_done: bool = True


@dataclass(frozen=True, slots=True)
class Throughput:
    """What came of it.

    Args:
        undisturbed_s: mean duration of each kind before the first fault.
        disturbed_s: of those that were done and began after it.
        ratio: work done under faults by work done undisturbed, in the same time.
        row_ratios: the same of each row alone, of those that do the same work.
    """

    undisturbed_s: dict[str, float]
    disturbed_s: dict[str, float]
    ratio: float
    row_ratios: dict[int, float]

    def __str__(self) -> str:
        """For people."""
        kinds = ", ".join(
            f"{kind} {self.undisturbed_s[kind]:.1f} s then {self.disturbed_s.get(kind, float('inf')):.1f} s"
            for kind in sorted(self.undisturbed_s)
        )
        short = "" if self.ratio >= ENOUGH else f", SHORT of {ENOUGH:.0%}"
        least, most = min(self.row_ratios.values()), max(self.row_ratios.values())
        unfair = "" if least >= FAIR * mean(self.row_ratios.values()) else ", SHORT for one of them"
        return (
            f"{self.ratio:.0%} of the undisturbed throughput{short} (means: {kinds}); "
            f"{len(self.row_ratios)} sessions alike, {least:.0%} to {most:.0%}{unfair}"
        )


def means_s(spans: Iterable[Span]) -> dict[str, float]:
    """The mean duration of each kind, of what was done."""
    durations_s: defaultdict[str, list[float]] = defaultdict(list)
    for span in spans:
        if span.is_done:
            durations_s[span.kind].append(span.end_s - span.start_s)
    return {kind: mean(each) for kind, each in durations_s.items()}


def measure(
    spans: Sequence[Span], first_fault_s: float, end_s: float, alike: Collection[str] = ()
) -> Throughput:
    """Compare what was done between the first fault and the end with what was done before.

    Args:
        spans: all programs; each kind was done at least once before the first fault.
        first_fault_s: when faults began.
        end_s: when the last fault was over.
        alike: kinds that are done in turns by all rows that do them; empty for all kinds.
    """
    undisturbed_s = means_s(span for span in spans if span.end_s <= first_fault_s)
    rows = sorted({span.row for span in spans})
    done_s, given_s = dict.fromkeys(rows, 0.0), dict.fromkeys(rows, end_s - first_fault_s)
    for span in spans:
        overlap_s = max(0.0, min(span.end_s, end_s) - max(span.start_s, first_fault_s))
        if span.is_done:
            done_s[span.row] += undisturbed_s[span.kind] * overlap_s / (span.end_s - span.start_s)
    disturbed_s = means_s(span for span in spans if span.start_s >= first_fault_s)
    ratio = _ratio(sum(done_s.values()), sum(given_s.values()))
    alike_rows = sorted({span.row for span in spans if not alike or span.kind in alike})
    row_ratios = {row: _ratio(done_s[row], given_s[row]) for row in alike_rows}
    return Throughput(undisturbed_s, disturbed_s, ratio, row_ratios)


def _ratio(done_s: float, given_s: float) -> float:
    return done_s / given_s if given_s > 0 else 1.0
