"""What a run of all QA data says: counts and the remaining time, a line for each difference, a summary."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.support.figures import Figure
from tests.qa.verdicts import GOOD, Outcome, Verdict

# Between two lines that say how far it is.
LINE_EVERY_S = 15.0
SHOWN_CHARS = 300


class Progress:
    """Counts job files.

    Args:
        total: of them all.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._start_s = self._told_s = time.monotonic()
        self.verdicts: list[Verdict] = []

    def add(self, verdict: Verdict) -> None:
        """Count one; tell it if it differs."""
        self.verdicts.append(verdict)
        if verdict.outcome not in GOOD:
            words = " | ".join(verdict.differences)[:SHOWN_CHARS]
            say(f"{verdict.name}: {verdict.outcome.upper()}: {words}")
        if time.monotonic() - self._told_s > LINE_EVERY_S:
            self._told_s = time.monotonic()
            say(self._how_far())

    def _how_far(self) -> str:
        done, bad = len(self.verdicts), self.bad_count
        left_s = (time.monotonic() - self._start_s) / done * (self._total - done)
        return f"{done} of {self._total} job files, {bad} differ; about {left_s / 60:.0f} min left"

    @property
    def exit_code(self) -> int:
        """0 if none differs."""
        return int(self.bad_count > 0)

    @property
    def bad_count(self) -> int:
        """How many differ."""
        return sum(each.outcome not in GOOD for each in self.verdicts)

    @property
    def counts(self) -> Counter[Outcome]:
        """How many of each outcome."""
        return Counter(each.outcome for each in self.verdicts)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._start_s

    def summary(self) -> str:
        """How many of each outcome, and the time."""
        counts = self.counts
        lines = [f"{counts[outcome]:5d}  {outcome}" for outcome in Outcome]
        return "\n".join([*lines, f"{len(self.verdicts):5d}  job files in {self.seconds / 60:.1f} min"])

    def figures(self, name: str) -> list[Figure]:
        """What was found, to be kept as benchmarks keep their figures.

        Args:
            name: of the engine and the mode.
        """
        counts = self.counts
        return [
            Figure(f"{name}: equal", counts[Outcome.EQUAL], ""),
            Figure(f"{name}: refused alike", counts[Outcome.REFUSED], ""),
            Figure(f"{name}: different", self.bad_count, "", at_most=0),
            Figure(f"{name}: time", self.seconds / 60, "min", at_most=20),
        ]

    def write(self, path: Path, facts: dict[str, Any]) -> None:
        """Write all that is known as JSON.

        Args:
            path: of the file.
            facts: what else to write.
        """
        found = {
            **facts,
            "seconds": round(self.seconds, 1),
            "counts": Counter(str(each.outcome) for each in self.verdicts),
            "job_files": [asdict(each) for each in sorted(self.verdicts, key=lambda each: each.name)],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def say(line: str) -> None:
    """A line for people."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
