"""What the journal of an executor costs for each call, and how fast it answers: part of `make bench-resume`.

On a cluster of its own with two workers; with and without a journal in turns, in one process.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.support.figures import Figure
from quakegrid import ClusterExecutor, LocalCluster

COUNT, ANSWERED_COUNT, ROUNDS = 20_000, 10_000, 3
MICRO = 1e6
# What a call with an array of its own takes and returns.
ARRAY_COUNT, ARRAY_SIZE = 500, 12_500


def same(value: object) -> object:
    """A call that does nothing."""
    return value


def map_s(executor: ClusterExecutor, count: int) -> tuple[float, float]:
    """The time of so many calls with numbers, and this program's CPU time in it."""
    start_s, cpu_s = time.perf_counter(), time.process_time()
    assert sum(executor.map(same, range(count))) == sum(range(count))  # type: ignore[arg-type]
    return time.perf_counter() - start_s, time.process_time() - cpu_s


def arrays_s(executor: ClusterExecutor) -> float:
    """The time of calls with arrays of 100 kB."""
    start_s = time.perf_counter()
    values = [np.full(ARRAY_SIZE, number, float) for number in range(ARRAY_COUNT)]
    for number, found in enumerate(executor.map(same, values)):
        assert found[-1] == number  # type: ignore[index]
    return time.perf_counter() - start_s


def figures() -> Iterator[Figure]:
    """All figures."""
    plain, kept, answered = (list[tuple[float, float]]() for _ in range(3))
    plain_arrays, kept_arrays, answered_arrays = (list[float]() for _ in range(3))
    with tempfile.TemporaryDirectory() as folder, LocalCluster(cores=2) as cluster:
        os.environ["QUAKEGRID_STATE_DIR"] = folder
        for number in range(ROUNDS + 1):  # one to warm up
            with cluster.executor() as executor:
                plain.append(map_s(executor, COUNT))
                plain_arrays.append(arrays_s(executor))
            with cluster.executor(journal=f"round{number}") as executor:
                kept.append(map_s(executor, COUNT))
                kept_arrays.append(arrays_s(executor))
            with cluster.executor(journal=f"round{number}") as executor:
                answered.append(map_s(executor, ANSWERED_COUNT))
                answered_arrays.append(arrays_s(executor))
        size = sum(path.stat().st_size for path in Path(folder).rglob("round0/*.journal"))
    for place, what in enumerate(("", ", CPU")):
        plain_us, kept_us = (
            MICRO * min(each[place] for each in times[1:]) / COUNT for times in (plain, kept)
        )
        yield Figure(f"call of an executor, no journal{what}", plain_us, "us")
        yield Figure(f"call of an executor, journal{what}", kept_us, "us")
        most = 50.0 if place else None  # the time of a wall clock is that of other programs, too
        yield Figure(f"what the journal adds to a call{what}", kept_us - plain_us, "us", at_most=most)
        answered_s = min(each[place] for each in answered[1:])
        yield Figure(f"10,000 calls answered from a journal{what}", answered_s, "s", at_most=1.0)
    plain_us, kept_us = (MICRO * min(times[1:]) / ARRAY_COUNT for times in (plain_arrays, kept_arrays))
    yield Figure("call with an array of 100 kB, no journal", plain_us, "us")
    yield Figure("call with an array of 100 kB, journal", kept_us, "us")
    answered_us = MICRO * min(answered_arrays[1:]) / ARRAY_COUNT
    yield Figure("the same, answered from a journal", answered_us, "us")
    yield Figure("the journal of both", size / (1 << 20), "MiB")


if __name__ == "__main__":
    for figure in figures():
        print(figure, flush=True)
