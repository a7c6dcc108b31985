"""Simulate the cluster: `python -m tests.simulation [--seeds N] [--first N] [--replay SEED]`.

Prints each seed that breaks a promise, with the fewest of its faults that are enough, and sums at the end.
"""

from __future__ import annotations

import argparse
import sys

from tests.simulation import runs, shrinking

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
    args = parser.parse_args(argv)
    if args.replay is not None:
        return replay(args.replay)
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


def _tell(run: runs.Run) -> None:
    if run.violation:
        print(f"seed {run.seed}: {run.violation}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
