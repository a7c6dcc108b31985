"""What a driver tells of its tasks, and what that costs however many they are."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import pytest

from quakegrid.engine.tasks import task_progress as subject
from quakegrid.engine.tasks.task_progress import Event, TaskProgress

AT_ONCE = 8


class CountedQueue(list[tuple[Any, Any]]):
    """A Starmap's queue that counts how much of it was looked at."""

    looked_at = 0

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Look at each."""
        for task in super().__iter__():
            self.looked_at += 1
            yield task


def classical() -> None:
    """A task."""


def later() -> None:
    """Another one, which tasks of the first add."""


def run(queue: CountedQueue, step_s: float) -> tuple[list[Event], float]:
    """Run a Starmap as the engine does, some tasks at once; returns what was told, and the time it took."""
    events: list[Event] = []
    progress = TaskProgress(events.append)
    running: collections.deque[str] = collections.deque()
    now_s = 0.0

    def submit() -> None:
        nonlocal now_s
        now_s += step_s
        function, _ = queue.pop(0)
        running.append(function.__name__)
        progress.count_submitted(running[-1], 7)
        progress.tell(running[-1], 7, queue, now_s)

    for _ in range(AT_ONCE):
        submit()
    while running:
        now_s += step_s
        operation = running.popleft()
        progress.count_done(operation, 7)
        progress.tell(operation, 7, queue, now_s)
        if queue:
            submit()
    return events, now_s


@pytest.mark.parametrize(("count", "step_s"), [(20_000, 1e-6), (20_000, 1e-4), (5000, 1e-3), (500, 0.1)])
def test_progress_of_many_tasks_looks_at_each_a_bounded_number_of_times(count: int, step_s: float) -> None:
    """However fast the tasks are, and however many: not at the whole queue with each task."""
    queue = CountedQueue([(classical, ())] * count)

    events, seconds = run(queue, step_s)

    assert queue.looked_at <= seconds / subject.INTERVAL_PER_TASK_S + 3 * count
    assert len(events) <= seconds / subject.INTERVAL_S + 3
    last = events[-1]
    assert (last["done_count"], last["total_count"], last["job_id"]) == (count, count, 7)


def test_total_has_what_is_not_submitted_yet() -> None:
    """Whether a task was submitted or is done; tasks of another kind are not among them."""
    queue = CountedQueue([(classical, ())] * 100 + [(later, ())] * 50)

    events, _ = run(queue, 1.0)

    totals: dict[object, set[object]] = collections.defaultdict(set)
    for event in events:
        totals[event["operation"]].add(event["total_count"])
    assert totals == {"classical": {100}, "later": {50}}


def test_last_task_of_an_operation_is_always_told() -> None:
    """Though something was told just before."""
    events, _ = run(CountedQueue([(classical, ())] * AT_ONCE), 1e-9)

    assert [event["done_count"] for event in events] == [0, AT_ONCE]


def test_tasks_from_a_journal_are_told_apart() -> None:
    """Those of other operations are not among them."""
    events: list[Event] = []
    progress = TaskProgress(events.append)
    for operation, is_replayed in (("classical", True), ("classical", False), ("disagg", True)):
        progress.count_submitted(operation, 7)
        if is_replayed:
            progress.count_replayed(operation, 7)
        progress.count_done(operation, 7)
        progress.tell(operation, 7, (), 0.0)

    told = [(event["operation"], event["done_count"], event["replayed_count"]) for event in events]
    assert told == [("classical", 1, 1), ("classical", 2, 1), ("disagg", 1, 1)]


class ToldSession:
    """A session that keeps what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[int, str, tuple[int, int, int]]] = []

    def tell_stage(self, job_id: int, operation: str, counts: tuple[int, int, int]) -> None:
        """Keep it."""
        self.stages.append((job_id, operation, counts))


def test_progress_goes_to_the_command_line_and_to_the_broker() -> None:
    """Both hear the same, of each job its own tasks; work without a job has the number 0 at the broker."""
    session = ToldSession()
    events: list[Event] = []
    progress = TaskProgress(subject.to_broker_too(events.append, lambda: session))

    for calc_id, now_s in ((7, 1.0), (8, 2.0), (None, 3.0)):
        progress.count_submitted("classical", calc_id)
        progress.count_done("classical", calc_id)
        progress.tell("classical", calc_id, (), now_s)

    assert session.stages == [
        (7, "classical", (1, 1, 0)),
        (8, "classical", (1, 1, 0)),
        (0, "classical", (1, 1, 0)),
    ]
    assert [(each["job_id"], each["done_count"]) for each in events] == [(7, 1), (8, 1), (None, 1)]
