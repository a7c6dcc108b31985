"""Runs side by side on one machine, each in a process of its own.

Their networks do not meet: namespaces and the bridge between them have the process's number in their names,
and addresses mean something inside of them only. Files are below a directory for each run.
"""

from __future__ import annotations

import functools
import multiprocessing
import signal
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from tests.faults.harness.run import Order, Report, carry_out


def end_by_exceptions() -> None:
    """Let SIGTERM take down what we made."""

    def end(number: int, _frame: object) -> None:
        for child in multiprocessing.active_children():
            child.terminate()
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)


def run(order: Order, directory: Path, *, is_alone: bool) -> Report:
    """Run once, in a process of its own unless it is the only one; what happens is printed."""
    end_by_exceptions()
    mark = "" if is_alone else f"[{order.seed}] "
    return carry_out(order, directory, lambda text: print(f"{mark}{text}", flush=True))


def run_all(order: Order, seed_count: int, job_count: int) -> Iterator[tuple[Path, Report]]:
    """Run with one seed after the other, so many side by side; where the files are, and what came of it."""
    is_alone = job_count == 1
    # A process a run: the namespaces of a run have its number in their names.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(job_count, context, max_tasks_per_child=1) as pool:
        futures: dict[Future[Report], Path] = {}
        for seed in range(order.seed, order.seed + seed_count):
            directory = Path(tempfile.mkdtemp(prefix="qgf"))
            work = functools.partial(run, replace(order, seed=seed), directory, is_alone=is_alone)
            futures[pool.submit(work)] = directory
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # begin none of those that wait
            raise
