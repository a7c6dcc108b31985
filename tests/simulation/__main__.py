"""Simulate the cluster: `python -m tests.simulation [--seeds N] [--first N] [--replay SEED] [--mutants]`.

Prints each seed that breaks a promise, with the fewest of its faults that are enough, and sums at the end.
With `--mutants` it puts one bug after the other into the code, and tells which seed finds it.
"""

from __future__ import annotations

import argparse
import sys

from tests.simulation import mutants, runs, shrinking

# More failing seeds than this are only named.
MOST_STORIES = 5


def main(argv: list[str]) -> int:
    """Run seeds; 0 if no promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many seeds (1000)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--processes", type=int, help="how many at once (one for each core)")
    parser.add_argument(
        "--replay", type=int, metavar="SEED", help="run one seed again, and print what happens"
    )
    parser.add_argument("--mutants", action="store_true", help="look for bugs that are put in on purpose")
    args = parser.parse_args(argv)
    if args.replay is not None:
        return replay(args.replay)
    if args.mutants:
        return hunt_mutants(args.seeds, args.processes)
    seeds = range(args.first, args.first + args.seeds)
    total = runs.run_all(seeds, args.processes, on_run=_tell)
    for run in total.failed[:MOST_STORIES]:
        print("", *shrinking.story(run), sep="\n")
    print("", *total.lines(), sep="\n")
    if total.failed:
        print(f"seeds that failed: {' '.join(str(run.seed) for run in total.failed)}")
        print("run one of them again with `make simulate REPLAY=SEED`")
    return 1 if total.failed else 0


def replay(seed: int) -> int:
    """Run a seed with all checks after every step; print all that happens."""
    run = shrinking.replay(seed, is_thorough=True)
    print("\n".join(run.trace))
    print(f"seed {seed}: {run.violation or 'no promise was broken'} (digest {run.digest})")
    return 1 if run.violation else 0


def hunt_mutants(seed_count: int, process_count: int | None) -> int:
    """Look for each mutant; 0 if all were found."""
    missed = 0
    for hunt in mutants.hunt_all(seed_count, process_count or runs.core_count()):
        words = hunt.violation.partition(": ")[2].partition("; its lane has")[0]
        how = f"found by seed {hunt.seed_count}: {words}" if hunt.is_found else "NOT FOUND"
        print(f"{hunt.mutant:28} {how}", flush=True)
        missed += not hunt.is_found
    count = len(mutants.MUTANTS)
    print(f"{count - missed} of {count} mutants were found within {seed_count} seeds")
    return 1 if missed else 0


def _tell(run: runs.Run) -> None:
    if run.violation:
        print(f"seed {run.seed}: {run.violation}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
