"""A program that works on the cluster and judges what comes out; the harness starts and kills it.

Usage: `python -m tests.faults.harness.program STATE_DIR WORK SIZE [JOURNAL]`. Exit code 0 if all was right;
what was wrong goes to stdout. With a journal a program that was killed goes on where it was.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter

from quakegrid import errors
from quakegrid.sdk.cluster import Cluster
from quakegrid.sdk.executor import ClusterExecutor
from tests.faults.harness import tasks

PARTS_TASKS = 8
BLOCK_COUNT = 3
OPEN_S = 60.0


def sums(executor: ClusterExecutor, count: int) -> str:
    """Many small tasks, each of which must count once."""
    total = sum(executor.map(tasks.take, range(count)))
    expected = count * (count - 1) // 2
    return "" if total == expected else f"the sum is {total}, not {expected}"


def parts(executor: ClusterExecutor, count: int) -> str:
    """Generators, all of whose results must come, once."""
    found = Counter(each for result in executor.map(tasks.parts, range(count)) for each in result)
    expected = Counter(range(count * tasks.PART_COUNT))
    return "" if found == expected else f"lost {expected - found}, too many {found - expected}"


def blocks(executor: ClusterExecutor, megabytes: int) -> str:
    """Large results."""
    size = megabytes << 20
    for seed, data in enumerate(executor.map(tasks.block, range(BLOCK_COUNT), [size] * BLOCK_COUNT)):
        if tasks.digest(data) != tasks.digest(tasks.block(seed, size)):
            return f"block {seed} is not what was sent"
    return ""


def holds(executor: ClusterExecutor, count: int) -> str:
    """Tasks that wait for the harness, each alone on its worker, in the program's directory."""
    futures = [executor.submit_weighted(1.0, tasks.hold, os.getcwd(), number) for number in range(count)]  # noqa: PTH109
    found = [future.result() for future in futures]
    return "" if found == list(range(count)) else f"found {found}"


def open_executor(cluster: Cluster, journal: str | None = None) -> ClusterExecutor:
    """An executor; nobody promises that one opens while a service is away, so it is tried for a while."""
    end_s = time.monotonic() + OPEN_S
    while True:
        try:
            return cluster.executor(journal=journal)
        except errors.PeerUnreachableError:
            if time.monotonic() > end_s:
                raise
            time.sleep(0.2)


WORK = {"sums": sums, "parts": parts, "blocks": blocks, "holds": holds}


def main() -> int:
    """Work once."""
    state_dir, work, size, *journal = sys.argv[1:]
    name = journal[0] if journal else None
    with Cluster(state_dir) as cluster, open_executor(cluster, name) as executor:
        wrong = WORK[work](executor, int(size))
        if name and not wrong:
            executor.forget()
    print(wrong)
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
