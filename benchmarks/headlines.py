"""The figures that begin the page of measurements, as measured last: `make reference` writes them there.

A page has them between the two marks below. `tests/unit/house/test_figures.py` holds the page to the records.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support import records
from benchmarks.support.figures import Figure, in_digits
from benchmarks.support.records import Record

PAGE = records.ROOT / "docs" / "background" / "measurements.md"
BEGIN = "<!-- Figures: `make reference` writes them from benchmarks/results. -->\n"
END = "<!-- End of the figures. -->\n"


@dataclass(frozen=True, slots=True)
class Headline:
    """One row of the table: what was measured, in words, and where the value is."""

    says: str
    benchmark: str
    figure: str


HEADLINES = (
    Headline("a small calculation on a warm cluster", "first", "quakegrid run: wall time"),
    Headline("… faster than the engine's processpool", "first", "quakegrid run: faster than processpool"),
    Headline("… faster than the engine's zmq", "first", "quakegrid run: faster than zmq"),
    Headline("a classical PSHA, faster than processpool", "medium", "classical: faster than processpool"),
    Headline("… faster than zmq", "medium", "classical: faster than zmq"),
    Headline("an event-based risk, faster than processpool", "medium", "risk: faster than processpool"),
    Headline("… faster than zmq", "medium", "risk: faster than zmq"),
    Headline(
        "an empty call, less than multiprocessing.Pool's cost", "broker", "faster than Pool.apply_async"
    ),
    Headline("workers' time used, 1,024 workers", "crowd", "1,024 workers, used of their time"),
    Headline("files served instead of shared, 12 calculations", "nofs", "12 cases, served"),
    Headline("killed at 90 %, complete after", "resume", "killed at 90 %, to its end"),
    Headline(
        "web: list and status with 200 live pages, p99", "web", "list and status, 200 pages, busy cores, p99"
    ),
)


def newest(kept: Iterable[Record]) -> dict[tuple[str, str], tuple[Figure, Record]]:
    """The last value of each figure, by benchmark and name.

    Args:
        kept: oldest first.
    """
    return {(record.benchmark, figure.name): (figure, record) for record in kept for figure in record.figures}


def table(kept: Iterable[Record]) -> str:
    """Rows for the headlines that were measured."""
    found = newest(kept)
    rows = ["| measured | value | commit | by |", "|---|---|---|---|"]
    for line in HEADLINES:
        if (line.benchmark, line.figure) not in found:
            continue
        figure, record = found[line.benchmark, line.figure]
        value = f"{in_digits(figure.value)} {figure.unit}".strip()
        rows.append(f"| {line.says} | {value} | {record.commit} | `make bench-{line.benchmark}` |")
    return "".join(f"{row}\n" for row in rows)


def with_table(text: str, kept: Iterable[Record]) -> str:
    """A page whose figures are those of the records.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}\n{table(kept)}\n{END}{after}"


def write(page: Path = PAGE) -> None:
    """Put the newest figures into the page."""
    page.write_text(with_table(page.read_text(encoding="utf-8"), records.all_records()), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(write())
