"""The figures of one lane: what it does here, where it shares the cores with its peers, and what it could do.

The lane's own limit is told by the CPU time of its busiest thread; each has a core of its own where a master
has enough. Light drivers and workers, see `load.py`.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.support.figures import Figure
from benchmarks.support.lane import load as lane_load
from benchmarks.support.lane.load import Load, Used
from quakegrid.services.lane.tasks import scheduler
from quakegrid.transport import libsodium

ROUNDS = 3
# As many of one session as a lane takes.
QUEUED = scheduler.MAX_TASKS
LARGE_BYTES = 16 << 20
MIB = 1 << 20
SHORT = Load()
# One driver's results are one connection's; those of two may be two threads'.
LARGE = {
    count: Load(count, 4 // count, 48 // count, argument_bytes=10, result_bytes=LARGE_BYTES, window=6)
    for count in (1, 2)
}
CURVE_PASSES = (
    4  # a result is encrypted and decrypted on its way to the lane, and again on its way to the driver
)
_CIPHER_ROUNDS = 50


def figures() -> Iterator[Figure]:
    """Measure a lane."""
    yield from short_tasks()
    yield from large_results()
    yield from queued_tasks()


def short_tasks() -> Iterator[Figure]:
    """Empty tasks of two drivers."""
    runs = [lane_load.measure(SHORT) for _ in range(ROUNDS)]
    used = max(runs, key=lambda run: run.rate_hz)
    cores = len(os.sched_getaffinity(0))
    all_us = used.us(used.lane_loop_s + used.lane_io_all_s + used.drivers_s + used.workers_s)
    yield Figure("one lane, short tasks of two drivers, here", used.rate_hz, "/s", at_least=25_000)
    yield Figure(f"the same if all had these {cores} cores alone", cores / all_us * 1e6, "/s")
    alone_hz = max(run.lane_rate_hz for run in runs)
    yield Figure("the same, a lane with cores of its own", alone_hz, "/s", at_least=25_000)
    yield Figure("CPU of a task, the lane's loop", used.us(used.lane_loop_s), "us")
    yield Figure("CPU of a task, the lane's I/O threads", used.us(used.lane_io_all_s), "us")
    yield Figure("CPU of a task, the drivers", used.us(used.drivers_s), "us")
    yield Figure("CPU of a task, the workers", used.us(used.workers_s), "us")


def large_results() -> Iterator[Figure]:
    """Results of 16 MiB, beside what the cipher itself allows."""
    one_core = cipher_mib_s()
    cores = len(os.sched_getaffinity(0))
    yield Figure("crypto_box, one way, one core", one_core, "MiB/s")
    yield Figure(f"its limit for results, {cores} cores for all", one_core * cores / CURVE_PASSES, "MiB/s")
    for count, large in LARGE.items():
        runs = [lane_load.measure(large) for _ in range(ROUNDS)]
        name = f"results of {count} driver{'s' if count > 1 else ''}"
        yield Figure(f"one lane, {name}, here", max(map(mib_s, runs)), "MiB/s")
        alone = max(map(lane_mib_s, runs))
        yield Figure(f"{name}, a lane with cores of its own", alone, "MiB/s", at_least=600)


def mib_s(used: Used) -> float:
    """Bandwidth of large results."""
    return used.rate_hz * LARGE_BYTES / MIB


def lane_mib_s(used: Used) -> float:
    """The bandwidth that the lane's busiest thread allows."""
    return used.lane_rate_hz * LARGE_BYTES / MIB


def cipher_mib_s() -> float:
    """What one core encrypts with libsodium's `crypto_box`, which CURVE uses, in frames of a mebibyte."""
    path = libsodium.find_library()
    if path is None:
        return float("nan")
    encrypt = ctypes.CDLL(str(path)).crypto_box_afternm
    plain, secret = (ctypes.create_string_buffer(MIB + 64) for _ in range(2))
    key, nonce = ctypes.create_string_buffer(32), ctypes.create_string_buffer(24)
    best_s = float("inf")
    for _ in range(_CIPHER_ROUNDS):
        start_s = time.thread_time()
        assert encrypt(secret, plain, ctypes.c_ulonglong(MIB), nonce, key) == 0
        best_s = min(best_s, time.thread_time() - start_s)
    return 1 / best_s


def queued_tasks() -> Iterator[Figure]:
    """A full lane: memory, and the longest look for garbage, also in Python's own way."""
    before, own = (queued(mode) for mode in ("default", "own"))
    yield Figure("longest pause, 500,000 tasks, Python's own way", before["pause_s"] * 1000, "ms")
    yield Figure("longest pause, 500,000 tasks queued", own["pause_s"] * 1000, "ms", at_most=50)
    yield Figure("memory of a queued task of 100 bytes", own["bytes"], "B", at_most=500)


def queued(mode: str) -> dict[str, float]:
    """What `queued.py` tells."""
    command = [sys.executable, "-m", "benchmarks.support.lane.queued", str(QUEUED), mode]
    found: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found
