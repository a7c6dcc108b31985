"""Work for a crowd, and what became of it: a stream of naps that never lets the queue run dry.

A nap takes 50 ms to 1 s, so the machine's speed does not matter as long as the cluster's own share of its CPU
is there: a worker's time is its task's or it is lost between two tasks, and both are measured.
"""

from __future__ import annotations

import collections
import itertools
import random
import tempfile
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from benchmarks.crowd.cluster import WAIT_S, wait_until
from benchmarks.crowd.tasks import nap
from quakegrid.reports.task_history import TaskHistory
from quakegrid.sdk.executor import ClusterExecutor

LEAST_S, MOST_S = 0.05, 1.0
# Tasks in hand for each worker, so that seconds pass before a queue is empty that nobody fills.
AHEAD = 8
SEED = 17


class Delivery(NamedTuple):
    """A result that came: when, of which task, from which process."""

    at_s: float
    number: int
    pid: int


class Feeder:
    """Keeps naps waiting on an executor while its block lasts, and notes each result; for one block.

    Args:
        executor: whose workers nap.
        worker_count: how many there should be.
    """

    def __init__(self, executor: ClusterExecutor, worker_count: int) -> None:
        self._executor, self._room = executor, threading.Semaphore(AHEAD * worker_count)
        self._is_over = False
        self._folder = tempfile.TemporaryDirectory(prefix="qgn")
        self._thread = threading.Thread(target=self._feed, name="feeder")
        self.submitted_count = 0
        self.deliveries: list[Delivery] = []
        self.errors: list[BaseException] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over = True
        self._thread.join()
        if exc is None:
            wait_until(lambda: len(self.deliveries) + len(self.errors) == self.submitted_count)
        self._runs = self._count_runs()
        self._folder.cleanup()

    def wait_for_workers(self, count: int, timeout_s: float = WAIT_S) -> set[int]:
        """Wait until so many processes have each delivered something from now on; returns them."""
        begin, pids = len(self.deliveries), set[int]()

        def is_enough() -> bool:
            nonlocal begin
            fresh = self.deliveries[begin:]
            begin += len(fresh)
            pids.update(delivery.pid for delivery in fresh)
            if self.errors:
                raise self.errors[0]
            return len(pids) >= count

        wait_until(is_enough, timeout_s)
        return pids

    @property
    def repeated_run_count(self) -> int:
        """Runs beyond one of each task; when the block is over."""
        return sum(count - 1 for count in self._runs.values())

    @property
    def lost_count(self) -> int:
        """Tasks of which no result came, or that no worker ran; when the block is over."""
        return self.submitted_count - len(self._runs.keys() & {each.number for each in self.deliveries})

    @property
    def repeated_delivery_count(self) -> int:
        """Results that came beyond one of each task; when the block is over."""
        return len(self.deliveries) - len({each.number for each in self.deliveries})

    def _feed(self) -> None:
        chance = random.Random(SEED)
        for number in itertools.count():
            while not self._room.acquire(timeout=0.1):
                if self._is_over:
                    return
            if self._is_over:
                return
            duration_s = chance.uniform(LEAST_S, MOST_S)
            future = self._executor.submit_weighted(1.0, nap, number, duration_s, self._folder.name)
            self.submitted_count += 1
            future.add_done_callback(self._take)

    def _take(self, future: Future[tuple[int, int]]) -> None:
        failure = future.exception()
        if failure is not None:
            self.errors.append(failure)
        else:
            self.deliveries.append(Delivery(time.monotonic(), *future.result()))
        self._room.release()

    def _count_runs(self) -> collections.Counter[int]:
        files = Path(self._folder.name).iterdir()
        return collections.Counter(int(line) for file in files for line in file.read_text().splitlines())


@dataclass(frozen=True, slots=True)
class Pause:
    """What a fault has cost: the longest time without any result, and the time until all workers deliver."""

    silent_s: float
    recovered_s: float


def pause(deliveries: Collection[Delivery], fault_s: float, pids: Collection[int]) -> Pause:
    """What came of a fault at this time, if these processes go on after it."""
    since = [delivery for delivery in deliveries if delivery.at_s >= fault_s]
    times = [fault_s, *(delivery.at_s for delivery in since)]
    silent_s, silence_end_s = max((end - begin, end) for begin, end in itertools.pairwise(times))
    first = dict[int, float]()
    for delivery in since:
        if delivery.at_s >= silence_end_s:
            first.setdefault(delivery.pid, delivery.at_s)
    return Pause(silent_s, max(first[pid] for pid in pids) - fault_s)


@dataclass(frozen=True, slots=True)
class Window:
    """Time of a session within two instants: of its workers, and of its tasks, in seconds."""

    worker_s: float
    task_s: float

    @property
    def utilisation(self) -> float:
        """Part of the workers' time that tasks ran."""
        return self.task_s / self.worker_s


def last_sent_s(history: TaskHistory) -> float:
    """When the queue of a session became empty for the last time."""
    return max(attempt.sent_s for attempt in history.attempts)


def window(history: TaskHistory, begin_s: float, end_s: float) -> Window:
    """Workers and tasks of a session between two instants (seconds since 1970)."""

    def within(since_s: float, until_s: float) -> float:
        return max(0.0, min(until_s, end_s) - max(since_s, begin_s))

    lives = history.workers.values()
    return Window(
        sum(within(life.joined_s, life.left_s or end_s) for life in lives),
        sum(within(each.end_s - each.duration_s, each.end_s) for each in history.attempts),
    )
