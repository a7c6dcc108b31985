"""Times tasks through one neighbour, in an environment that has it: prints {"us": ...}, a task, as JSON.

Called by `bench_broker.py`, in a process of its own for each measure; imports nothing of QuakeGrid.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORKERS, ROUNDS = 2, 2
ARGUMENT_BYTES, ARGUMENT_COUNT = 16 << 20, 200
MICRO = 1e6


def empty() -> None:
    """Do nothing."""


def first(array: Any) -> float:
    """Look at the first number."""
    return float(array[0])


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


def start_ray() -> None:
    """On this machine, with as many cores as the others have workers."""
    import ray

    ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)


def ray_us() -> float:
    """Remote functions."""
    import ray

    start_ray()
    remote = ray.remote(empty)
    return best_us(lambda: ray.get([remote.remote() for _ in range(5000)]), 5000)


def ipyparallel_us() -> float:
    """Its balanced view, two engines."""
    import ipyparallel

    with ipyparallel.Cluster(n=WORKERS, log_level=logging.ERROR) as client:
        view = client.load_balanced_view()
        return best_us(
            lambda: [result.get() for result in [view.apply_async(empty) for _ in range(500)]], 500
        )


def parsl_us() -> float:
    """Its high-throughput executor, which starts scripts of its own by their names."""
    import parsl
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="quakegrid-bench-") as directory:
        executor = HighThroughputExecutor(
            address="127.0.0.1",
            max_workers_per_node=WORKERS,
            provider=LocalProvider(init_blocks=1, max_blocks=1),
        )
        config = parsl.Config(executors=[executor], run_dir=directory, usage_tracking=0)
        with parsl.load(config):
            app = parsl.python_app(empty)
            return best_us(lambda: [future.result() for future in [app() for _ in range(1000)]], 1000)


def scaler_us() -> float:
    """OpenGRIS Scaler with its own scheduler on this machine."""
    import scaler

    cluster = scaler.SchedulerClusterCombo(n_workers=WORKERS)
    try:
        with scaler.Client(address=cluster.get_address()) as client:
            return best_us(
                lambda: [future.result() for future in [client.submit(empty) for _ in range(1000)]], 1000
            )
    finally:
        cluster.shutdown()


def ray_argument_us() -> float:
    """One large array to many tasks: put into the object store once, fresh each round."""
    import numpy as np
    import ray

    start_ray()
    remote = ray.remote(first)
    arrays = [np.full(ARGUMENT_BYTES // 8, float(seed)) for seed in range(ROUNDS + 1)]

    def run() -> None:
        reference = ray.put(arrays.pop())
        ray.get([remote.remote(reference) for _ in range(ARGUMENT_COUNT)])

    return best_us(run, ARGUMENT_COUNT)


EMPTY = {
    "loky": loky_us,
    "Dask": dask_us,
    "Ray": ray_us,
    "ipyparallel": ipyparallel_us,
    "Parsl": parsl_us,
    "Scaler": scaler_us,
}
ARGUMENT = {"Ray": ray_argument_us}
MEASURES: dict[str, dict[str, Callable[[], float]]] = {"empty": EMPTY, "argument": ARGUMENT}

if __name__ == "__main__":
    print(json.dumps({"us": MEASURES[sys.argv[1]][sys.argv[2]]()}))
