"""How every benchmark ends: its figures are printed, and kept in `benchmarks/results/*.json`.

There is one file by benchmark, commit and machine. Everything else that a benchmark says goes to stderr.

A later run of the same three replaces the figures of the same names and keeps the others, so that parts of a
benchmark can be measured one after the other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.support.figures import Figure

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
# What a checkout without git has for its commit.
NO_COMMIT = "unknown"


@dataclass(frozen=True, slots=True)
class Machine:
    """What figures depend on beside the code; runs are compared on machines of one kind."""

    processor: str
    core_count: int
    memory_gib: int
    python: str

    @property
    def kind(self) -> str:
        """A short name for machines that are alike."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:6]


@dataclass(frozen=True, slots=True)
class Record:
    """What one benchmark measured at one commit on one machine.

    Attributes:
        commit: twelve digits; with `+` behind them if the checkout had changes.
        at: begin of the latest run, UTC, ISO 8601.
        load: load average of the minute before the run; above a half of a core's the figures are blurred.
    """

    benchmark: str
    commit: str
    at: str
    load: float
    machine: Machine
    figures: tuple[Figure, ...] = field(default=())

    @property
    def path(self) -> Path:
        """The file of this record."""
        return RESULTS / f"{self.benchmark}-{self.commit}-{self.machine.kind}.json"


def report(benchmark: str, figures: Iterable[Figure]) -> int:
    """Print and keep figures; the exit code is 1 when any is short of its target.

    Args:
        benchmark: its name, as in `make bench-NAME`.
        figures: may be measured while they are asked for. What was measured before an error is kept.
    """
    record, measured = begin(benchmark), list[Figure]()
    try:
        for figure in figures:
            print(figure, flush=True)
            measured.append(figure)
    finally:
        if measured:
            print(f"kept in {keep(record, measured)}", file=sys.stderr)
    return int(any(figure.is_short for figure in measured))


def begin(benchmark: str) -> Record:
    """A record without figures; called before the benchmark makes load."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Record(benchmark, this_commit(), now, round(os.getloadavg()[0], 2), this_machine())


def keep(record: Record, figures: Iterable[Figure]) -> Path:
    """Write the record with these figures, and with those of its file that have other names."""
    measured = {figure.name: figure for figure in figures}
    earlier = read(record.path).figures if record.path.exists() else ()
    merged = {figure.name: figure for figure in earlier} | measured
    text = json.dumps(asdict(record) | {"figures": [as_json(figure) for figure in merged.values()]}, indent=1)
    RESULTS.mkdir(exist_ok=True)
    unfinished = record.path.with_suffix(".tmp")
    unfinished.write_text(f"{text}\n", encoding="utf-8")
    unfinished.replace(record.path)
    return record.path


def read(path: Path) -> Record:
    """A record from its file."""
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    figures = tuple(Figure(**each) for each in values.pop("figures"))
    return Record(**values | {"machine": Machine(**values["machine"]), "figures": figures})


def all_records() -> list[Record]:
    """All that are kept, oldest first."""
    return sorted((read(path) for path in RESULTS.glob("*.json")), key=lambda record: record.at)


def as_json(figure: Figure) -> dict[str, Any]:
    """A figure without targets that it has not, its value in five digits."""
    values = {name: value for name, value in asdict(figure).items() if value is not None}
    return values | {"value": float(f"{figure.value:.5g}")}


def this_commit() -> str:
    """The commit of the checkout, with `+` if tracked files are changed; results do not count."""
    found = _git("rev-parse", "--short=12", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return NO_COMMIT if found is None else f"{found}+" if changed else found


def _git(*args: str) -> str | None:
    """What git prints; None if this is no checkout or git is missing."""
    try:
        done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def this_machine() -> Machine:
    """The machine that runs this program."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    memory_gib = round(psutil.virtual_memory().total / (1 << 30))
    return Machine(
        next(names, platform.machine()), os.cpu_count() or 1, memory_gib, platform.python_version()
    )


def chosen_parts(description: str | None, names: Iterable[str]) -> list[str]:
    """The parts that the command line names; without any all of them. Ends the program if it names others.

    Args:
        description: of the benchmark.
        names: of its parts.
    """
    known = list(names)
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="*", help=f"measure only these: {', '.join(known)}")
    asked: list[str] = parser.parse_args(sys.argv[1:]).part
    if unknown := sorted(set(asked) - set(known)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(known)}")
    return asked or known
