"""Which tasks have run for too long: seen now and then."""

from __future__ import annotations

import math

import pytest

from quakegrid.services.lane.tasks.events import TaskId, WorkerId
from quakegrid.services.lane.tasks.overdue import REPEAT_S, OverdueWatch

W1, W2 = WorkerId("w1"), WorkerId("w2")


def look(watch: OverdueWatch, now_s: float, *running: tuple[WorkerId, int, int]) -> list[WorkerId]:
    """What a look finds."""
    return list(watch.find([(name, TaskId(task_id), attempt) for name, task_id, attempt in running], now_s))


def test_task_has_its_time_from_when_it_was_first_seen() -> None:
    """Another attempt, or another task, has its own."""
    watch = OverdueWatch(10.0)

    assert look(watch, 0.0, (W1, 1, 1), (W2, 2, 1)) == []
    assert look(watch, 9.9, (W1, 1, 1), (W2, 3, 1)) == []
    assert look(watch, 10.0, (W1, 1, 1), (W2, 3, 1)) == [W1]
    assert look(watch, 19.9, (W1, 1, 2), (W2, 3, 1)) == [W2]


def test_worker_that_is_not_gone_is_told_again() -> None:
    """An order to kill it may have been lost."""
    watch = OverdueWatch(10.0)
    found = [look(watch, float(now_s), (W1, 1, 1)) for now_s in range(41)]

    assert [now_s for now_s, workers in enumerate(found) if workers] == [
        10,
        10 + REPEAT_S,
        10 + 2 * REPEAT_S,
        40,
    ]


def test_blame_is_the_task_s_that_ran_too_long() -> None:
    """And of a worker that ended otherwise, nobody's here."""
    watch = OverdueWatch(10.0)
    for now_s in (0.0, 10.0):
        look(watch, now_s, (W1, 1, 1), (W2, 2, int(now_s) + 1))

    assert watch.forget(W1) == 1
    assert watch.forget(W1) is None
    assert watch.forget(W2) is None


def test_workers_that_are_idle_or_gone_are_forgotten() -> None:
    """What is remembered is bounded by the workers that run something."""
    watch = OverdueWatch(10.0)
    look(watch, 0.0, (W1, 1, 1), (W2, 2, 1))
    look(watch, 1.0)

    assert watch.forget(W1) is None
    assert look(watch, 10.0, (W1, 1, 1)) == []


@pytest.mark.parametrize(("timeout_s", "interval_s"), [(math.inf, math.inf), (0.4, 0.1), (3600.0, 1.0)])
def test_looks_are_as_frequent_as_the_time_wants(timeout_s: float, interval_s: float) -> None:
    """A second is often enough; without a time there are none."""
    assert OverdueWatch(timeout_s).look_interval_s == interval_s
    assert OverdueWatch().look_interval_s == math.inf


def test_without_a_time_nothing_is_remembered() -> None:
    """It costs nothing where it is off."""
    watch = OverdueWatch()

    assert look(watch, 0.0, (W1, 1, 1)) == look(watch, 1e9, (W1, 1, 1)) == []
    assert watch.forget(W1) is None
