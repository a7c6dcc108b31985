"""The order of waiting tasks, and what it costs to leave the queue and come again."""

from __future__ import annotations

from quakegrid.services.lane.tasks.events import TaskId
from quakegrid.services.lane.tasks.queue import TaskQueue


def drain(queue: TaskQueue) -> list[int]:
    """All tasks in their order."""
    return [queue.pop() for _ in range(len(queue))]


def filled(*tasks: tuple[int, float]) -> TaskQueue:
    """A queue of tasks with these weights."""
    queue = TaskQueue()
    for task_id, weight in tasks:
        queue.push(TaskId(task_id), weight)
    return queue


def test_heavier_tasks_come_first_then_those_that_came_first() -> None:
    """Longest processing time first."""
    assert drain(filled((1, 1.0), (2, 5.0), (3, 1.0), (4, 5.0))) == [2, 4, 1, 3]


def test_task_comes_again_with_another_weight() -> None:
    """Its old place is nobody's, wherever it was."""
    for old, new in ((1.0, 9.0), (9.0, 1.0)):
        queue = filled((1, old), (2, 5.0))
        queue.discard(TaskId(1), old)

        queue.push(TaskId(1), new)

        assert sorted(queue) == [1, 2]
        assert drain(queue) == ([1, 2] if new > old else [2, 1])


def test_task_comes_again_with_the_same_weight_once() -> None:
    """However often it left."""
    queue = filled((1, 1.0), (2, 1.0))
    for _ in range(5):
        queue.discard(TaskId(1), 1.0)
        queue.push(TaskId(1), 1.0)

    assert sorted(queue) == [1, 2]
    assert sorted(drain(queue)) == [1, 2]


def test_level_that_was_emptied_by_leaving_is_gone() -> None:
    """The next task is found, and the weight may be used again."""
    queue = filled((1, 9.0), (2, 1.0))
    queue.discard(TaskId(1), 9.0)
    assert queue.peek() == 2

    queue.push(TaskId(3), 9.0)

    assert drain(queue) == [3, 2]


def test_places_that_were_left_do_not_add_up() -> None:
    """A driver that cancels and submits the same task for ever costs a bounded amount."""
    queue = filled((1, 1.0), (2, 1.0))
    for _ in range(10_000):
        queue.discard(TaskId(1), 1.0)
        queue.push(TaskId(1), 1.0)

    assert len(queue._levels[1.0].task_ids) < 2_100
    assert drain(queue) == [2, 1]
