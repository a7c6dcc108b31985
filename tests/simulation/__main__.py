"""Simulate the cluster: `python -m tests.simulation [--seeds N] [--first N] [--replay SEED] [--mutants ...]`.

Prints each seed that breaks a promise, with the fewest of its faults that are enough, and sums at the end.
With `--mutants` it puts one bug after the other into the code, and prints which seed finds each: one that
breaks a promise with the bug, and none without it. It ends with 0 if no promise was broken, or if all bugs
were found.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from benchmarks.support import records
from benchmarks.support.figures import Figure
from tests.simulation import mutants, runs, shrinking
from tests.simulation.bugs import MUTANTS

# More failing seeds than this are only named.
MOST_STORIES = 5
# What so many seeds found is kept as benchmarks keep their figures.
KEPT_SEEDS = 1000
WORDS_WIDTH = 110


def main(argv: list[str]) -> int:
    """Run seeds; 0 if no promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seeds", type=int, default=1000, help="how many seeds, for each mutant at most (1000)"
    )
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--processes", type=int, help="how many at once (one for each core)")
    parser.add_argument(
        "--replay", type=int, metavar="SEED", help="run one seed again, and print what happens"
    )
    names = [each.name for each in MUTANTS]
    parser.add_argument(
        "--mutants",
        nargs="*",
        metavar="NAME",
        help=f"look for bugs that are put in on purpose, all if none is named: {', '.join(names)}",
    )
    args = parser.parse_args(argv)
    if args.replay is not None:
        return replay(args.replay)
    if args.mutants is not None:
        if unknown := sorted(set(args.mutants).difference(names)):
            parser.error(f"there is no mutant {unknown[0]}")
        return hunt_mutants(args.seeds, args.processes, args.mutants)
    record, seeds = records.begin("simulate"), range(args.first, args.first + args.seeds)
    total = runs.run_all(seeds, args.processes, on_run=_tell)
    for run in total.failed[:MOST_STORIES]:
        print("", *shrinking.story(run), sep="\n")
    print("", *total.lines(), sep="\n")
    if total.failed:
        print(f"seeds that failed: {' '.join(str(run.seed) for run in total.failed)}")
        print("run one of them again with `make simulate REPLAY=SEED`")
    if total.run_count >= KEPT_SEEDS:
        print(f"kept in {records.keep(record, total.figures())}", file=sys.stderr)
    return 1 if total.failed else 0


def replay(seed: int) -> int:
    """Run a seed with all checks after every step; print all that happens."""
    run = shrinking.replay(seed, is_thorough=True)
    print("\n".join(run.trace))
    print(f"seed {seed}: {run.violation or 'no promise was broken'} (digest {run.digest})")
    return 1 if run.violation else 0


def hunt_mutants(seed_count: int, process_count: int | None, names: Sequence[str]) -> int:
    """Look for mutants, all if none is named; 0 if each was found."""
    record, begin_s = records.begin("simulate"), time.monotonic()
    count, missed, failing = 0, 0, set[int]()
    print(f"{'mutant':28} {'seeds':>5}  what its last seed found, and finds no more without the mutant")
    for hunt in mutants.hunt_all(seed_count, process_count or runs.core_count(), names):
        words = hunt.violation.partition(": ")[2].partition("; its lane has")[0] or "NOT FOUND"
        print(f"{hunt.mutant:28} {hunt.seed_count:5}  {words:.{WORDS_WIDTH}}", flush=True)
        count += 1
        missed += not hunt.is_found
        failing |= set(hunt.failing)
    took_s = time.monotonic() - begin_s
    print(f"{count - missed} of {count} mutants were found within {seed_count} seeds, in {took_s:.0f} s")
    if not names:
        figures = [
            Figure("mutants: found", count - missed, ""),
            Figure("mutants: not found", missed, "", at_most=0),
        ]
        print(f"kept in {records.keep(record, figures)}", file=sys.stderr)
    if failing:
        print(f"seeds that fail without any mutant: {' '.join(map(str, sorted(failing)))}")
    return 1 if missed or failing else 0


def _tell(run: runs.Run) -> None:
    if run.violation:
        print(f"seed {run.seed}: {run.violation}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
