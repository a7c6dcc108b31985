"""The tasks of one session that wait for a worker: heaviest first, then in the order they came.

Pure. Most jobs have few different weights, so a queue a weight costs less than a heap of all tasks.
A task that left is skipped when its turn comes.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator

from services.broker.lane_events import TaskId


class TaskQueue:
    """Ids by weight; entering one again that left is allowed."""

    def __init__(self) -> None:
        self._levels: dict[float, deque[TaskId]] = {}
        self._weights: list[float] = []  # a heap of the levels' negative weights
        self._left: set[TaskId] = set()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[TaskId]:
        for level in self._levels.values():
            yield from (task_id for task_id in level if task_id not in self._left)

    def push(self, task_id: TaskId, weight: float, *, is_first: bool = False) -> None:
        """Enter a task that is not in the queue, as the first or last of its weight."""
        if task_id in self._left:  # its old place must not count for the new one
            self._levels[weight].remove(task_id)
            self._left.discard(task_id)
        level = self._levels.get(weight)
        if level is None:
            level = self._levels[weight] = deque()
            heapq.heappush(self._weights, -weight)
        if is_first:
            level.appendleft(task_id)
        else:
            level.append(task_id)
        self._count += 1

    def peek(self) -> TaskId:
        """The next task; there must be one."""
        while True:
            level = self._levels[-self._weights[0]]
            while level:
                task_id = level[0]
                if task_id not in self._left:
                    return task_id
                self._left.discard(level.popleft())
            del self._levels[-heapq.heappop(self._weights)]

    def pop(self) -> TaskId:
        """Take out what `peek` gives."""
        task_id = self.peek()
        self._levels[-self._weights[0]].popleft()
        self._count -= 1
        return task_id

    def discard(self, task_id: TaskId) -> None:
        """Take out a task that is in the queue, wherever it is."""
        self._left.add(task_id)
        self._count -= 1
