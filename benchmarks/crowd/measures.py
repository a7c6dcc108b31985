"""What is measured of a crowd: each function does one thing with it, and returns what that has cost.

`bench_crowd.py` prints it beside targets, `tests/system/test_crowd.py` holds it against bounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from benchmarks.crowd.cluster import Crowd, Usage, usages, wait_until
from benchmarks.crowd.work import Feeder, Pause, last_sent_s, pause, window
from quakegrid.clients.broker import BrokerClient
from quakegrid.reports import task_history
from quakegrid.reports.task_history import TaskHistory
from quakegrid.sdk.executor import ClusterExecutor

Usages = dict[str, Usage]


@dataclass(frozen=True, slots=True)
class Working:
    """A crowd at work for some seconds."""

    begin_s: float  # monotonic
    utilisation: float
    used: Usages
    task_count: int
    seconds: float
    idle_part: float  # of the machine's CPU

    def cpu_us(self, name: str) -> float:
        """CPU a task of some processes."""
        return self.used[name].cpu_s / self.task_count * 1e6


@dataclass(frozen=True, slots=True)
class Resting:
    """A crowd that waits for tasks."""

    used: Usages
    seconds: float
    worker_count: int

    @property
    def cores(self) -> float:
        """CPU of all its processes, in cores."""
        return sum(each.cpu_s for each in self.used.values()) / self.seconds

    @property
    def wakeups_hz(self) -> float:
        """How often a worker wakes."""
        return self.used["workers"].sleep_count / self.seconds / self.worker_count


@dataclass(frozen=True, slots=True)
class Shared:
    """Parts of the session that came second, 0 to 1, and the time until it had its workers."""

    worker_part: float
    task_part: float
    moved_s: float
    idle_part: float


@dataclass(frozen=True, slots=True)
class Survived:
    """A lane and a broker that were killed while a crowd worked."""

    lane: Pause
    broker: Pause
    feeder: Feeder
    lost_worker_count: int


def work(crowd: Crowd, executor: ClusterExecutor, worker_count: int, seconds: float) -> Working:
    """Let the workers of the newest session nap, from when each has had a task until the queue is empty."""
    with Feeder(executor, worker_count) as feeder:
        feeder.wait_for_workers(worker_count)
        at_work_s, begin_s = time.monotonic(), time.time()
        pids, begin_cpu = crowd.pids(), psutil.cpu_times()
        before, count = usages(pids), len(feeder.deliveries)
        time.sleep(seconds)
        count = len(feeder.deliveries) - count
        after, idle_part = usages(pids), _idle_part(begin_cpu)
    session_id = max(session.session_id for session in crowd.status().sessions)
    history = _history(crowd, session_id, lambda found: len(found.attempts) >= feeder.submitted_count)
    found = window(history, begin_s, last_sent_s(history))
    used = {name: after[name] - before[name] for name in after}
    return Working(at_work_s, found.utilisation, used, count, seconds, idle_part)


def rest(crowd: Crowd, executor: ClusterExecutor, seconds: float) -> Resting:
    """Let all wait for tasks after each has had one."""
    with Feeder(executor, crowd.worker_count) as feeder:
        feeder.wait_for_workers(crowd.worker_count)
    pids = crowd.pids()
    begin_s, before = time.monotonic(), usages(pids)
    time.sleep(seconds)
    duration_s, after = time.monotonic() - begin_s, usages(pids)
    used = {name: after[name] - before[name] for name in after}
    return Resting(used, duration_s, len(pids["workers"]))


def share(crowd: Crowd, first: ClusterExecutor, seconds: float) -> Shared:
    """Let a second session come while the first one has all workers; both keep as many naps waiting."""
    half = crowd.worker_count // 2
    with Feeder(first, crowd.worker_count) as one:
        one.wait_for_workers(crowd.worker_count)
        came_s = time.monotonic()
        with (
            ClusterExecutor(crowd.settings, shows_output=False) as second,
            Feeder(second, crowd.worker_count) as two,
        ):
            two.wait_for_workers(half)
            moved_s = time.monotonic() - came_s
            begin_s, begin_cpu = time.time(), psutil.cpu_times()
            time.sleep(seconds)
            end_s, idle_part = time.time(), _idle_part(begin_cpu)
            ids = sorted(session.session_id for session in crowd.status().sessions)

    def is_later(history: TaskHistory) -> bool:
        return max(each.end_s for each in history.attempts) > end_s

    windows = [window(_history(crowd, session_id, is_later), begin_s, end_s) for session_id in ids]
    return Shared(
        windows[1].worker_s / sum(each.worker_s for each in windows),
        windows[1].task_s / sum(each.task_s for each in windows),
        moved_s,
        idle_part,
    )


def survive(crowd: Crowd, executor: ClusterExecutor) -> Survived:
    """Kill the lane of a session that has all workers, then the broker."""
    with Feeder(executor, crowd.worker_count) as feeder:
        pids = feeder.wait_for_workers(crowd.worker_count)
        pauses: list[Pause] = []
        for kill in (crowd.kill_lane, crowd.kill_broker):
            fault_s = time.monotonic()
            kill()
            for _ in range(2):  # the first may have been on its way
                feeder.wait_for_workers(crowd.worker_count)
            pauses.append(pause(feeder.deliveries, fault_s, pids))
    lost = pids.difference(crowd.pids()["workers"])
    return Survived(pauses[0], pauses[1], feeder, len(lost))


def _history(crowd: Crowd, session_id: int, is_whole: Callable[[TaskHistory], bool]) -> TaskHistory:
    """The records of a session, when its lane has written them."""
    found: list[TaskHistory] = []

    def is_there() -> bool:
        with BrokerClient(crowd.settings) as broker:
            found[:] = [task_history.read_history(broker.task_records(session_id))]
        return is_whole(found[0])

    wait_until(is_there)
    return found[0]


def _idle_part(since: psutil._ntuples.scputimes) -> float:
    """Part of the machine's CPU that nobody used since then."""
    passed = [after - before for before, after in zip(since, psutil.cpu_times(), strict=True)]
    names = since._fields
    idle_s = sum(passed[names.index(name)] for name in ("idle", "iowait"))
    return idle_s / sum(passed)
