"""Runs in the machine, as the services' user: functions on the cluster, one of them with too much memory."""

from __future__ import annotations

import json
import mmap
import socket
import sys
import time
from pathlib import Path

from quakegrid import Cluster, errors

PAGE = 4096


def square(number: int) -> int:
    """A tiny task."""
    return number * number


def where(_number: int) -> list[str]:
    """The machine and cgroup of a worker."""
    time.sleep(0.5)  # so that one worker does not take all of them
    return [socket.gethostname(), Path("/proc/self/cgroup").read_text(encoding="ascii").strip()]


def share(size_bytes: int) -> int:
    """Takes shared memory, which no limit of the process counts."""
    kept = mmap.mmap(-1, size_bytes)
    for place in range(0, size_bytes, PAGE):
        kept[place] = 1
    return len(kept)


def main() -> None:
    """Print what came of it."""
    eaten_bytes = int(sys.argv[1])
    killed = ""
    with Cluster() as cluster, cluster.executor() as executor:
        total = sum(executor.map(square, range(100)))
        places = list(executor.map(where, range(20)))
        if eaten_bytes:
            try:
                executor.submit(share, eaten_bytes).result()
            except errors.TaskKilledError as exc:
                killed = str(exc)
        again = executor.submit(square, 3).result()
    print(json.dumps({"total": total, "places": places, "killed": killed, "again": again}))


if __name__ == "__main__":
    main()
