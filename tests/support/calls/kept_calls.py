"""A program whose calls are answered from a journal; tests kill it.

Usage: `python -m tests.support.calls.kept_calls STATE_DIR FOLDER COUNT ADDEND`. Each call that runs adds a
line to the file `runs` in the folder, with its worker, and call number COUNT / 2 waits for the file `go`
there. What came out goes to stdout.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from quakegrid import Cluster

ADDEND = 0


def add(folder: str, number: int, last: int) -> int:
    """Add a global to a number; the last one waits."""
    with Path(folder, "runs").open("a", encoding="utf-8") as runs:
        runs.write(f"{number} {os.getpid()}\n")
    while number == last and not Path(folder, "go").exists():
        time.sleep(0.01)
    return number + ADDEND


def main() -> None:
    """Call it for some numbers, in their order."""
    state_dir, folder, count, addend = sys.argv[1:]
    globals()["ADDEND"] = int(addend)
    last = int(count) // 2
    with Cluster(state_dir) as cluster, cluster.executor(journal="kept") as executor:
        futures = [executor.submit(add, folder, number, last) for number in range(int(count))]
        print([future.result() for future in futures])


if __name__ == "__main__":
    main()
