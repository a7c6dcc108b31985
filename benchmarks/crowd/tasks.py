"""What the workers of a crowd run: naps, which need a worker and no CPU."""

from __future__ import annotations

import os
import time

_open: dict[str, int] = {}


def nap(number: int, duration_s: float, folder: str) -> tuple[int, int]:
    """Sleep; returns the number and the process that slept.

    Args:
        number: of the task.
        duration_s: how long.
        folder: where each process notes the numbers of its tasks, in a file of its own.
    """
    pid = os.getpid()
    time.sleep(duration_s)
    if folder not in _open:
        _open[folder] = os.open(f"{folder}/{pid}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(_open[folder], b"%d\n" % number)
    return number, pid
