"""The figures of README and of the page of measurements, as measured last: `make reference` writes them.

A page has them between the two marks below. `tests/unit/house/test_figures.py` holds both to the records.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support import records
from benchmarks.support.figures import Figure, in_digits
from benchmarks.support.records import Record

README = records.ROOT / "README.md"
PAGE = records.ROOT / "docs" / "background" / "measurements.md"
BEGIN = "<!-- Figures: `make reference` writes them from benchmarks/results. -->\n"
END = "<!-- End of the figures. -->\n"


@dataclass(frozen=True, slots=True)
class Headline:
    """One row of the table.

    Args:
        says: what was measured.
        benchmark: where the value is.
        figure: its name there.
        command: what measures it; empty for `make bench-BENCHMARK`.
    """

    says: str
    benchmark: str
    figure: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of README's table.

    Args:
        says: what one gets.
        words: what was measured, with a `{}` for each value.
        figures: of the values, by benchmark and name; none if the words have their own.
    """

    says: str
    words: str
    figures: tuple[tuple[str, str], ...] = ()


CLAIMS = (
    Claim(
        "A small calculation starts at once: the engine stays loaded.",
        "`quakegrid run` {} on a cluster that is up, `oq engine --run` {}",
        (("first", "quakegrid run: wall time"), ("first", "plain engine, processpool: wall time")),
    ),
    Claim(
        "Calculations of a minute are faster, too, on the same cores.",
        "a classical PSHA {} as fast as the engine's pool, {} as its zmq mode; event-based risk {} and {}",
        (
            ("medium", "classical: faster than processpool"),
            ("medium", "classical: faster than zmq"),
            ("medium", "risk: faster than processpool"),
            ("medium", "risk: faster than zmq"),
        ),
    ),
    Claim(
        "A worker costs little, since all workers share one engine.",
        "{} before its first task; the engine's own pool {}",
        (
            ("first", "quakegrid: unshared memory of a worker"),
            ("first", "plain engine: unshared memory of a worker"),
        ),
    ),
    Claim(
        "A worker that dies costs the task that it runs, and not the job.",
        "the task runs again after {} (p99 of 100)",
        (("agent", "killed worker replaced, task runs again, p99"),),
    ),
    Claim(
        "A driver that dies does not end its calculation.",
        "[it goes on](docs/how-to/resume.md) from its journal; killed at 90 %, it is complete after {}",
        (("resume", "killed at 90 %, to its end"),),
    ),
    Claim(
        "Broker, dbserver and nodes may be restarted while calculations run.",
        "[6,302 faults](docs/background/measurements.md#a-cluster-that-is-broken-on-purpose) in 20 runs of "
        "an earlier version, no wrong result",
    ),
    Claim(
        "Calls of Python functions are cheap.",
        "{} each: Ray {}, Dask {} as long",
        (
            ("broker", "empty task, QuakeGrid"),
            ("broker", "faster than Ray"),
            ("broker", "faster than Dask"),
        ),
    ),
    Claim(
        "The numbers are those of the plain engine.",
        "of the job files of its test data {} are equal, {} refused by both in the same words, {} different; "
        "in each that has tasks a worker or its node was killed",
        (
            ("qa", "3.26.2 chaos: equal"),
            ("qa", "3.26.2 chaos: refused alike"),
            ("qa", "3.26.2 chaos: different"),
        ),
    ),
)


def _of_test_data(says: str, run: str, command: str) -> tuple[Headline, ...]:
    """Rows of one run of the engine's test data."""
    return (
        Headline(f"{says}: equal", "qa", f"{run}: equal", command),
        Headline("… refused by both with the same words", "qa", f"{run}: refused alike", command),
        Headline("… different", "qa", f"{run}: different", command),
    )


HEADLINES = (
    Headline("a small calculation on a warm cluster", "first", "quakegrid run: wall time"),
    Headline("… faster than the engine's processpool", "first", "quakegrid run: faster than processpool"),
    Headline("… faster than the engine's zmq", "first", "quakegrid run: faster than zmq"),
    *_of_test_data("the engine's test data", "3.26.2 whole", "make test-qa"),
    *_of_test_data("the same, nodes see no file", "3.26.2 nofs", "make test-qa MODE=nofs"),
    *_of_test_data("the same, a worker or its node killed", "3.26.2 chaos", "make test-qa MODE=chaos"),
    *_of_test_data("test data of engine 3.25", "3.25.1 whole", "make test-qa ENGINE=3.25"),
    *_of_test_data("test data of engine 3.24", "3.24.1 whole", "make test-qa ENGINE=3.24"),
    *_of_test_data("test data of engine 3.23", "3.23.5 whole", "make test-qa ENGINE=3.23"),
    Headline("faults of clusters that are simulated whole", "simulate", "seeds: faults", "make simulate"),
    Headline("… promises that they broke", "simulate", "seeds: that broke a promise", "make simulate"),
    Headline("bugs put in on purpose that it found", "simulate", "mutants: found", "make simulate-mutants"),
    Headline("… that it did not find", "simulate", "mutants: not found", "make simulate-mutants"),
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


def told(figure: Figure) -> str:
    """A value with its unit, as pages have it."""
    return f"{in_digits(figure.value)} {figure.unit.replace('us', 'µs')}".strip()


def headlines(kept: Iterable[Record]) -> str:
    """A table of the headlines that were measured."""
    found = newest(kept)
    rows = ["| measured | value | commit | by |", "|---|---|---|---|"]
    for line in HEADLINES:
        if (line.benchmark, line.figure) not in found:
            continue
        figure, record = found[line.benchmark, line.figure]
        command = line.command or f"make bench-{line.benchmark}"
        rows.append(f"| {line.says} | {told(figure)} | {record.commit} | `{command}` |")
    return "".join(f"{row}\n" for row in rows)


def claims(kept: Iterable[Record]) -> str:
    """A table of the claims whose figures were all measured."""
    found = newest(kept)
    rows = ["| | measured, on a machine of two cores |", "|---|---|"]
    for claim in CLAIMS:
        if all(each in found for each in claim.figures):
            values = [told(found[each][0]) for each in claim.figures]
            rows.append(f"| {claim.says} | {claim.words.format(*values)} |")
    return "".join(f"{row}\n" for row in rows)


def with_table(page: Path, table: str) -> str:
    """The text of a page whose figures are those of a table.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def pages() -> dict[Path, str]:
    """Each page with figures, as it should be."""
    kept = records.all_records()
    tables = {README: claims(kept), PAGE: headlines(kept)}
    return {page: with_table(page, table) for page, table in tables.items()}


def write() -> None:
    """Put the newest figures into the pages."""
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
