"""Two jobs at once on one cluster, one of many tiny tasks and one of long ones: what each of them got.

Told by the lanes' own task records. It counts from when the later of the two submitted until the first of
the two was done, so moving cores from one to the other is in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.support.tiny_tasks import spin
from quakegrid import LocalCluster
from quakegrid.clients.broker import BrokerClient
from quakegrid.reports import task_history
from quakegrid.reports.task_history import TaskHistory

TINY_COUNT, TINY_S = 100_000, 50e-6
LONG_COUNT, LONG_S = 80, 0.2


@dataclass(frozen=True, slots=True)
class Share:
    """Shares of the tiny job, 0 to 1, while both had work for `both_s`."""

    cores: float
    tasks: float
    both_s: float


def tiny_share(cores: int) -> Share:
    """Run both: the long one has all the cores when the tiny one comes."""
    with LocalCluster(cores) as cluster:
        with cluster.executor() as long:
            long_futures = [long.submit(spin, LONG_S) for _ in range(LONG_COUNT)]
            for future in long_futures[: 2 * cores]:
                future.result()
            with cluster.executor() as tiny:
                for future in [tiny.submit(spin, TINY_S) for _ in range(TINY_COUNT)]:
                    future.result()
                for future in long_futures:
                    future.cancel()
                with BrokerClient(cluster.settings) as broker:
                    sessions = sorted(session.session_id for session in broker.status().sessions)
        with BrokerClient(cluster.settings) as broker:
            long_history, tiny_history = (
                task_history.read_history(broker.task_records(session)) for session in sessions
            )
    return share(tiny_history, long_history)


def share(tiny: TaskHistory, long: TaskHistory) -> Share:
    """Compare two sessions."""
    both = (tiny, long)
    start_s = max(min(attempt.submitted_s for attempt in history.attempts) for history in both)
    end_s = min(max(attempt.end_s for attempt in history.attempts) for history in both)

    def within(since_s: float, until_s: float) -> float:
        return max(0.0, min(until_s, end_s) - max(since_s, start_s))

    cores_s = [
        sum(within(life.joined_s, life.left_s or end_s) for life in history.workers.values())
        for history in both
    ]
    tasks_s = [
        sum(within(attempt.end_s - attempt.duration_s, attempt.end_s) for attempt in history.attempts)
        for history in both
    ]
    return Share(cores_s[0] / sum(cores_s), tasks_s[0] / sum(tasks_s), end_s - start_s)
