"""Run all tests in three steps and say in one table how they went: `python -m tests [options of pytest]`.

The first step holds the coverage of the pure folders at 100 %. The second runs what starts services, in
three processes. The third runs what is marked `alone`, one test after the other. With `--measure`, lines and
branches of all code are measured in all steps, as far as it runs in the tests' own processes.

Tests that start services share the machine with each other and with whatever else runs there. A few that fail
in such a step are run once more, with nothing beside them. Those that pass then are named as UNSTABLE in the
table: somebody has to mend them, but they say nothing about the change that is tested.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from tests.unit.house.test_imports import PURE, ROOT

RESULTS = ROOT / "build" / "tests"
REPORT = ROOT / "build" / "coverage"
GROUPED = ("--dist=loadscope", "--no-loadscope-reorder")  # see tests/groups.py
QUICK = ("tests/unit", "tests/property")
# How pytest ends where no test is chosen, and where tests failed; and what coverage.py writes.
NO_TESTS = 5
TESTS_FAILED = 1
# More failures than this are no accident, and are not tried again.
MOST_UNSTABLE = 3
DATA_FILES = ".coverage*"


@dataclass(frozen=True)
class Step:
    """Some of the tests, and how pytest runs them."""

    name: str
    args: tuple[str, ...]


STEPS = (
    Step("unit", ("-n", "2", *QUICK)),
    Step("services", ("-n", "3", *GROUPED, "-m", "not alone", *(f"--ignore={folder}" for folder in QUICK))),
    Step("alone", ("-m", "alone")),
)
FLOOR = (
    *(f"--cov={name}" for name in PURE),
    "--cov-branch",
    "--cov-fail-under=100",
    "--cov-report=term-missing:skip-covered",
)
MEASURE = ("--cov=quakegrid", "--cov-branch", "--cov-append", "--cov-report=")


@dataclass(frozen=True)
class Outcome:
    """How a step went."""

    name: str
    exit_code: int
    duration_s: float
    counts: tuple[int, int, int]  # tests, those that failed, those that were skipped
    failed: tuple[str, ...]  # as pytest's arguments
    unstable: tuple[str, ...] = ()  # failed at first, and passed alone

    @property
    def is_good(self) -> bool:
        """Whether nothing failed, also outside of tests, such as the floor of coverage."""
        return self.exit_code in {0, NO_TESTS}


def main(argv: list[str]) -> int:
    """Run the steps; 0 if all of them are good."""
    parser = argparse.ArgumentParser(prog="python -m tests", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure the coverage of all code")
    asked, pytest_args = parser.parse_known_args(argv)
    RESULTS.mkdir(parents=True, exist_ok=True)
    if asked.measure:
        for path in ROOT.glob(DATA_FILES):
            path.unlink()
    outcomes = []
    for step in STEPS:
        outcome = run(step, coverage_args(step, asked.measure), pytest_args)
        outcomes.append(try_again(outcome, pytest_args) if may_try_again(step, outcome) else outcome)
    print("\n".join(summary(outcomes)))
    if asked.measure:
        coverage("html", "--quiet", f"--directory={REPORT}")
        coverage("report", "--skip-covered", "--skip-empty", "--sort=cover")
        print(f"line by line: {REPORT / 'index.html'}")
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def coverage_args(step: Step, is_measured: bool) -> tuple[str, ...]:
    """What a step measures."""
    if is_measured:
        return MEASURE
    return FLOOR if step.name == "unit" else ()


def run(step: Step, extra: tuple[str, ...], pytest_args: list[str]) -> Outcome:
    """Run a step to its end."""
    print(f"--- {step.name}", flush=True)
    results = RESULTS / f"{step.name}.xml"
    results.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", f"--junitxml={results}", *step.args, *extra, *pytest_args]
    begin_s = time.monotonic()
    exit_code = subprocess.run(command, cwd=ROOT, check=False).returncode
    duration_s = time.monotonic() - begin_s
    return Outcome(step.name, exit_code, duration_s, *read_results(results))


def may_try_again(step: Step, outcome: Outcome) -> bool:
    """Whether what failed may be an accident: few tests with services, and nothing but them."""
    return (
        step.name != "unit"
        and outcome.exit_code == TESTS_FAILED
        and 0 < len(outcome.failed) <= MOST_UNSTABLE
        and all((ROOT / name.partition("::")[0]).is_file() for name in outcome.failed)
    )


def try_again(first: Outcome, pytest_args: list[str]) -> Outcome:
    """Run what failed once more, with nothing beside it."""
    again = run(Step(f"{first.name} again", first.failed), (), pytest_args)
    tests, _, skipped = first.counts
    return Outcome(
        first.name,
        again.exit_code,
        first.duration_s + again.duration_s,
        (tests, len(again.failed), skipped),
        again.failed,
        tuple(sorted(set(first.failed) - set(again.failed))),
    )


def read_results(path: Path) -> tuple[tuple[int, int, int], tuple[str, ...]]:
    """Counts of a step, and the names of the tests that failed."""
    if not path.exists():
        return (0, 0, 0), ()
    (suite,) = ET.parse(path).getroot()
    cases = suite.findall("testcase")
    failed = {
        f"{(case.get('classname') or '').replace('.', '/')}.py::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    skipped = [case for case in cases if case.find("skipped") is not None]
    return (len(cases), len(failed), len(skipped)), tuple(sorted(failed))


def summary(outcomes: list[Outcome]) -> list[str]:
    """The table of the steps, below it what failed."""
    lines = ["", f"{'step':10}{'tests':>8}{'failed':>8}{'skipped':>9}{'time':>8}"]
    for outcome in outcomes:
        tests, failed, skipped = outcome.counts
        minutes, seconds = divmod(round(outcome.duration_s), 60)
        note = "" if outcome.is_good else f"  pytest ended with code {outcome.exit_code}"
        lines.append(f"{outcome.name:10}{tests:8}{failed:8}{skipped:9}{minutes:5}:{seconds:02}{note}")
    lines += [f"FAILED {name}" for outcome in outcomes for name in outcome.failed]
    lines += [f"UNSTABLE {name}" for outcome in outcomes for name in outcome.unstable]
    return [*lines, ""]


def coverage(*args: str) -> None:
    """Run coverage.py on what was measured."""
    subprocess.run([sys.executable, "-m", "coverage", *args], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
