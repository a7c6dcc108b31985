"""Runs the engine's QA data on QuakeGrid and on the plain engine: `python -m tests.qa [OPTIONS]`.

Ends with exit code 0 if all job files have the same numbers on both, or are refused by both with the same
words; with 1 if any differs, and with 2 if it cannot run here.
"""

from __future__ import annotations

import argparse
import functools
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks.support import records
from tests.engine.exports import find_differences
from tests.qa import catalogue, known, ours, plain, verdicts
from tests.qa.catalogue import Group
from tests.qa.ours import OurRun
from tests.qa.plain import PlainResults
from tests.qa.progress import Progress, say
from tests.qa.sides import Mode, NoSideError, Side, running_side

BUILD = Path(__file__).parents[2] / "build" / "qa"
EXIT_CANNOT = 2


def main() -> int:
    """Do it; the exit code."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # take everything down
    mode = Mode.NOFS if options.nofs else Mode.CHAOS if options.chaos else Mode.WHOLE
    try:
        data = catalogue.data_folder()
        groups = catalogue.choose(
            catalogue.group(catalogue.job_files(data)), options.cases, *map(int, options.shard.split("/"))
        )
        if not groups:
            raise NoSideError(f"no job file fits {options.cases!r}")  # noqa: TRY301 - said as the others
        if options.plain:
            return _run_plain(groups, data)
        path = options.json or BUILD / f"{mode}-{catalogue.engine_version()}.json"
        is_all = not options.cases and options.shard == "1/1"
        return _compare(mode, groups, data, path, is_all=is_all)
    except (FileNotFoundError, NoSideError) as exc:
        say(f"cannot run the QA data: {exc}")
        return EXIT_CANNOT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.qa", description=__doc__)
    parser.add_argument("--cases", default="", help="job files to run, such as 'classical/* disagg/case_3/*'")
    parser.add_argument("--shard", default="1/1", help="a part of them: 2/6 is the second of six")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--nofs", action="store_true", help="nodes do not see the files (root only)")
    modes.add_argument("--chaos", action="store_true", help="a worker or its node dies in each (root only)")
    parser.add_argument("--plain", action="store_true", help="only let the plain engine run what is not kept")
    parser.add_argument("--json", type=Path, help="where the results go (build/qa/MODE-VERSION.json)")
    return parser


def _run_plain(groups: list[Group], data: Path) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="qgp") as work,
        plain.plain_results(BUILD / "plain", Path(work), groups, data) as expected,
    ):
        for number, group in enumerate(groups, start=1):
            ends = [expected.end(group, job) for job in group.jobs]
            say(f"{number} of {len(groups)}: {group.name}: {sum(end.seconds for end in ends):.1f} s")
    return 0


def _compare(mode: Mode, groups: list[Group], data: Path, results: Path, *, is_all: bool) -> int:
    record = records.begin("qa")
    total = sum(len(group.jobs) for group in groups)
    progress = Progress(total)
    facts: dict[str, object] = {"mode": mode, "engine": catalogue.engine_version()}
    say(f"{total} job files of engine {catalogue.engine_version()}, mode {mode}")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="qgp") as work,
            plain.plain_results(BUILD / "plain", Path(work), groups, data) as expected,
            running_side(mode) as side,
        ):
            facts |= _run_both(groups, expected, side, progress)
    finally:  # what was found before an interrupt counts, too
        for key, value in facts.items():
            say(f"{key}: {value}")
        progress.write(results, facts)
        say(progress.summary())
        say(f"all of it: {results}")
    if is_all:
        say(f"kept in {records.keep(record, progress.figures(f'{catalogue.engine_version()} {mode}'))}")
    return progress.exit_code


def _run_both(
    groups: list[Group], expected: PlainResults, side: Side, progress: Progress
) -> dict[str, object]:
    """Run all groups on our side and compare; what the nodes had to bear."""
    tree = side.folder / "inputs"
    catalogue.copy(catalogue.data_folder(), tree)
    # First those that the plain engine has done, and of these the longest.
    ordered = sorted(groups, key=expected.known_seconds, reverse=True)
    job_ids: dict[str, int] = {}
    for runs in ours.run_all(side, ordered, tree):
        job_ids |= {run.job.name: run.job_id for run in runs}
        _judge(runs, groups, expected, progress)
    return side.facts(job_ids)


def _judge(runs: list[OurRun], groups: list[Group], expected: PlainResults, progress: Progress) -> None:
    group = next(group for group in groups if group.jobs[0] == runs[0].job)
    for run in runs:
        end = expected.end(group, run.job)
        differences = find_differences(
            expected.exports(run.job),
            run.exports,
            functools.partial(known.rule_of, catalogue.engine_version(), run.job.name),
        )
        progress.add(verdicts.judge(run.job.name, end, run.end, differences))


if __name__ == "__main__":
    raise SystemExit(main())
