"""Times empty tasks through one neighbour, in an environment that has it: prints {"empty_us": ...} as JSON.

Called by `bench_broker.py`, in a process of its own for each neighbour; imports nothing of QuakeGrid.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

WORKERS, ROUNDS = 2, 2
MICRO = 1e6


def empty() -> None:
    """Do nothing."""


def best_us(gather: Callable[[], Any], count: int) -> float:
    """The least time an empty task, of some rounds after one that warms up."""
    times = []
    for _ in range(ROUNDS + 1):
        start_s = time.perf_counter()
        gather()
        times.append(time.perf_counter() - start_s)
    return min(times[1:]) / count * MICRO


def futures_us(executor: Any, count: int) -> float:
    """Any `concurrent.futures` executor: all submitted, then all results taken."""
    return best_us(
        lambda: [future.result() for future in [executor.submit(empty) for _ in range(count)]], count
    )


def loky_us() -> float:
    """Its reusable executor."""
    import loky

    return futures_us(loky.get_reusable_executor(WORKERS), 5000)


def dask_us() -> float:
    """Distributed, two processes; impure tasks, or it would run one for all."""
    import distributed

    with distributed.Client(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None) as client:
        return best_us(lambda: client.gather([client.submit(empty, pure=False) for _ in range(2000)]), 2000)


def ray_us() -> float:
    """Remote functions."""
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(empty)
    return best_us(lambda: ray.get([remote.remote() for _ in range(5000)]), 5000)


NEIGHBOURS = {"loky": loky_us, "Dask": dask_us, "Ray": ray_us}

if __name__ == "__main__":
    print(json.dumps({"empty_us": NEIGHBOURS[sys.argv[1]]()}))
