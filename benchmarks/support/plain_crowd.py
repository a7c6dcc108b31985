"""Prints, as JSON, how long the plain engine takes to have COUNT workers, and their unshared memory.

`python -m benchmarks.support.plain_crowd COUNT`. The pool is the engine's own; each worker gets one task that
imports the calculators, as a calculation's first task does, and waits until all others have theirs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import psutil
from openquake.baselib import parallel
from openquake.commands.__main__ import oq  # noqa: F401 (what the `oq` script imports)

POLL_S = 0.01


def meet(folder: str, count: int) -> tuple[float, int]:
    """Import the calculators, wait for the others; returns the time of that and our unshared bytes."""
    import openquake.calculators.base
    import openquake.calculators.classical
    import openquake.calculators.event_based  # noqa: F401

    (Path(folder) / str(os.getpid())).touch()
    while len(os.listdir(folder)) < count:  # noqa: PTH208 - a number is wanted
        time.sleep(POLL_S)
    return time.monotonic(), int(psutil.Process().memory_full_info().uss)


def main() -> int:
    """Start the pool and have its workers meet."""
    count = int(sys.argv[1])
    parallel.num_cores = count
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.monotonic()
        parallel.Starmap.init("processpool")
        met = parallel.Starmap.pool.starmap(meet, [(folder, count)] * count, chunksize=1)
        parallel.Starmap.shutdown()
    ready_s = max(each for each, _ in met) - start_s
    print(json.dumps({"seconds": ready_s, "bytes": sum(each for _, each in met)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
