"""Which tasks are on the lane: bounded by count and bytes, the heaviest first, none forgotten."""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.session import task_window as subject
from quakegrid.session.task_window import TaskWindow

SMALL = 100


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test can reach: 10 tasks, 1,000 bytes once there are 4."""
    for name, value in {"TASKS": 10, "MAX_TASKS": 30, "BYTES": 1000, "FEW_TASKS": 4}.items():
        monkeypatch.setattr(subject, name, value)


def submit(window: TaskWindow, task_id: int, weight: float = 1.0, byte_count: int = SMALL // 10) -> bool:
    """What a driver does with a task; tells whether it was sent."""
    is_open = window.is_open
    if is_open:
        window.send(task_id, byte_count)
    else:
        window.wait(task_id, weight)
    window.check()
    return is_open


def refill(window: TaskWindow, byte_count: int = SMALL // 10) -> Iterator[int]:
    """The tasks that are sent now."""
    while (task_id := window.next()) is not None:
        window.send(task_id, byte_count)
        window.check()
        yield task_id


@pytest.mark.usefixtures("limits")
def test_tasks_beyond_the_count_wait_for_an_outcome() -> None:
    """One outcome makes room for one task."""
    window = TaskWindow()

    sent = [submit(window, number) for number in range(25)]
    window.end(3)

    assert sent == [True] * 10 + [False] * 15
    assert list(refill(window)) == [10]
    assert (window.sent_count, window.waiting_count, window.is_open) == (10, 14, False)


@pytest.mark.usefixtures("limits")
def test_large_payloads_wait_when_each_worker_can_have_some() -> None:
    """The first tasks go whatever their size; what ends gives its bytes back."""
    window = TaskWindow()

    sent = [submit(window, number, byte_count=400) for number in range(8)]
    window.end(0)
    window.end(1)
    after_two = list(refill(window, 400))
    for number in (2, 3, 4):
        window.end(number)

    assert sent == [True] * 4 + [False] * 4
    assert after_two == [4, 5]
    assert list(refill(window, 400)) == [6, 7]
    assert window.sent_bytes == 1200


@pytest.mark.usefixtures("limits")
def test_many_workers_widen_both_bounds() -> None:
    """Those that are expected, or those that answered, up to a limit; nobody is no worker."""
    expecting, seeing = TaskWindow(), TaskWindow()
    expecting.expect_workers(4)
    expecting.expect_workers(1)
    for name in ("w1", "w2", "w1", "", "w3", "w4"):
        seeing.see_worker(name)

    for window in (expecting, seeing):
        assert sum(submit(window, number) for number in range(40)) == 18
    large = TaskWindow()
    large.expect_workers(4)
    assert sum(submit(large, number, byte_count=1000) for number in range(40)) == 12
    huge = TaskWindow()
    huge.expect_workers(10**6)
    assert sum(submit(huge, number, byte_count=1000) for number in range(40)) == 30


@pytest.mark.usefixtures("limits")
def test_workers_without_end_are_not_all_remembered() -> None:
    """A session of weeks may see each worker's place taken many times."""
    window = TaskWindow()

    for number in range(1000):
        window.see_worker(f"w{number}")

    assert len(window._worker_ids) == 30


@pytest.mark.usefixtures("limits")
def test_heaviest_waiting_task_is_sent_first() -> None:
    """Of equal ones the one that came first."""
    window = TaskWindow()
    for number in range(10):
        submit(window, number)
    for number, weight in ((10, 1.0), (11, 5.0), (12, 1.0), (13, 7.0), (14, 5.0)):
        submit(window, number, weight)

    order = []
    for number in range(10):
        window.end(number)
        order += refill(window)

    assert order == [13, 11, 14, 10, 12]


@pytest.mark.usefixtures("limits")
def test_cancelled_task_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does its place stay when many are cancelled."""
    monkeypatch.setattr(subject, "_MAX_LEFT", 5)
    window = TaskWindow()
    for number in range(40):
        submit(window, number)

    for number in range(10, 38):
        window.end(number)
        window.check()
    window.end(0)
    window.end(1)

    assert len(window._order) <= 2 * 2 + 5
    assert list(refill(window)) == [38, 39]
    window.end(99)  # nobody's
    assert window.waiting_count == 0


def test_a_million_tasks_leave_the_lane_bounded() -> None:
    """Each task is on the lane once, and never more than the bound."""
    window, count = TaskWindow(), 1_000_000
    window.expect_workers(64)
    bound = subject.TASKS + 64 * subject.TASKS_PER_WORKER

    on_lane = [number for number in range(count) if submit_quickly(window, number)]
    most, order = len(on_lane), list(on_lane)
    for task_id in order:  # which grows
        window.end(task_id)
        order += refill_quickly(window)
        most = max(most, window.sent_count)

    assert most == bound
    assert order == list(range(count))


def submit_quickly(window: TaskWindow, task_id: int) -> bool:
    """As `submit`, without looking at everything each time."""
    is_open = window.is_open
    (window.send if is_open else window.wait)(task_id, 1)
    return is_open


def refill_quickly(window: TaskWindow) -> Iterator[int]:
    """As `refill`."""
    while (task_id := window.next()) is not None:
        window.send(task_id, 1)
        yield task_id


def test_heaviest_first_costs_nothing_that_a_lane_without_the_window_would_not() -> None:
    """A lane that has only the window's tasks starts them as one that has them all, but for one place.

    Weights grow, so the heaviest task is always the last that came: the worst case.
    """
    window, count, workers = TaskWindow(), 60_000, 8
    window.expect_workers(workers)
    lane: list[tuple[float, int]] = []
    for number in range(count):
        if submit_weighted(window, number):
            heapq.heappush(lane, (-number, number))

    started = []
    running: list[int] = []
    while lane or running:
        while lane and len(running) < workers:
            running.append(heapq.heappop(lane)[1])
            started.append(running[-1])
        window.end(running.pop(0))
        for task_id in refill_quickly(window):
            heapq.heappush(lane, (-task_id, task_id))

    # The first are those that the lane had when the heaviest came; from then on the heaviest go first.
    late = started[workers:]
    assert late[: count - window_size(workers)] == list(range(count - 1, window_size(workers) - 1, -1))
    assert sorted(started) == list(range(count))


def submit_weighted(window: TaskWindow, number: int) -> bool:
    """A task that is heavier than all before."""
    is_open = window.is_open
    if is_open:
        window.send(number, 1)
    else:
        window.wait(number, float(number))
    return is_open


def window_size(workers: int) -> int:
    """Tasks on the lane."""
    return subject.TASKS + subject.TASKS_PER_WORKER * workers


@pytest.mark.parametrize("fault", ["bytes", "both", "lost"])
def test_check_finds_what_cannot_be(fault: str) -> None:
    """Books that do not agree."""
    window = TaskWindow()
    window.send(1, 10)
    if fault == "bytes":
        window.sent_bytes += 1
    elif fault == "both":
        window.wait(1, 1.0)
    else:
        window._waiting.add(2)

    with pytest.raises(IllegalMoveError):
        window.check()
