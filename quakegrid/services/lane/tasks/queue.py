"""The tasks of one session that wait for a worker: heaviest first, then in the order they came.

Pure. Most jobs have few different weights, so a queue a weight costs less than a heap of all tasks.
A task that left is skipped when its turn comes.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from quakegrid.services.lane.tasks.events import TaskId

# Places of tasks that left, in a queue where they are more than half: then it is made anew.
_MAX_LEFT = 1000


@dataclass(slots=True)
class _Level:
    """The tasks of one weight; `left` counts the places of each task that are not its own any more."""

    task_ids: deque[TaskId] = field(default_factory=deque)
    left: dict[TaskId, int] = field(default_factory=dict)
    left_count: int = 0

    def skip(self, task_id: TaskId) -> bool:
        """Whether the next place of a task is one that it left, which is forgotten with it."""
        count = self.left.get(task_id)
        if count is None:
            return False
        self.left_count -= 1
        if count > 1:
            self.left[task_id] = count - 1
        else:
            del self.left[task_id]
        return True

    def clean(self) -> None:
        """Take out all places that were left."""
        self.task_ids = deque(task_id for task_id in self.task_ids if not self.skip(task_id))


class TaskQueue:
    """Ids by weight; entering one again that left is allowed, also with another weight."""

    def __init__(self) -> None:
        self._levels: dict[float, _Level] = {}
        self._weights: list[float] = []  # a heap of the levels' negative weights
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[TaskId]:
        for level in self._levels.values():
            copy = _Level(level.task_ids, dict(level.left), level.left_count)
            yield from (task_id for task_id in level.task_ids if not copy.skip(task_id))

    def push(self, task_id: TaskId, weight: float, *, is_first: bool = False) -> None:
        """Enter a task that is not in the queue, as the first or last of its weight.

        One that left with the same weight, and whose turn has not come since, may get its old place.
        """
        level = self._levels.get(weight)
        if level is None:
            level = self._levels[weight] = _Level()
            heapq.heappush(self._weights, -weight)
        if is_first:
            level.task_ids.appendleft(task_id)
        else:
            level.task_ids.append(task_id)
        self._count += 1

    def peek(self) -> TaskId:
        """The next task; there must be one."""
        while True:
            level = self._levels[-self._weights[0]]
            while level.task_ids:
                task_id = level.task_ids[0]
                if not level.left or not level.skip(task_id):
                    return task_id
                level.task_ids.popleft()
            del self._levels[-heapq.heappop(self._weights)]

    def pop(self) -> TaskId:
        """Take out what `peek` gives."""
        task_id = self.peek()
        self._levels[-self._weights[0]].task_ids.popleft()
        self._count -= 1
        return task_id

    def discard(self, task_id: TaskId, weight: float) -> None:
        """Take out a task that is in the queue with this weight, wherever it is there."""
        level = self._levels[weight]
        level.left[task_id] = level.left.get(task_id, 0) + 1
        level.left_count += 1
        self._count -= 1
        if level.left_count > max(_MAX_LEFT, len(level.task_ids) // 2):
            level.clean()
