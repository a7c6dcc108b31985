"""Which workers of a session run a task for longer than it may.

Pure. Looks now and then at what each worker runs, so a task that ends in time costs nothing; one that does
not is found up to two looks late.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from quakegrid.services.lane.tasks.events import TaskId, WorkerId

MAX_LOOK_S = 1.0
# An order to kill may be lost on its way to a node: it is given again.
REPEAT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """An attempt that a worker ran when we looked, and when that is too long."""

    task_id: TaskId
    attempt: int
    end_s: float
    is_overdue: bool = False


@dataclass(slots=True)
class OverdueWatch:
    """The workers of one session, as they were at the last look.

    Args:
        timeout_s: how long a task may run; infinity for ever.
    """

    timeout_s: float = math.inf
    _seen: dict[WorkerId, _Seen] = field(default_factory=dict)

    @property
    def look_interval_s(self) -> float:
        """How often to look; infinity if never."""
        return math.inf if self.timeout_s == math.inf else min(MAX_LOOK_S, self.timeout_s / 4)

    def find(self, running: Iterable[tuple[WorkerId, TaskId, int]], now_s: float) -> Iterator[WorkerId]:
        """Those that are to be killed now.

        Args:
            running: each worker that has a task, with the task that it runs and its attempt.
            now_s: the time of this look.
        """
        if self.timeout_s == math.inf:
            return
        before, self._seen = self._seen, {}
        for worker_id, task_id, attempt in running:
            seen = before.get(worker_id)
            if seen is None or (seen.task_id, seen.attempt) != (task_id, attempt):
                seen = _Seen(task_id, attempt, now_s + self.timeout_s)
            elif now_s >= seen.end_s:
                seen = _Seen(task_id, attempt, now_s + REPEAT_S, is_overdue=True)
                yield worker_id
            self._seen[worker_id] = seen

    def forget(self, worker_id: WorkerId) -> TaskId | None:
        """Let go of a worker that ended; the task for which it was to be killed."""
        seen = self._seen.pop(worker_id, None)
        return seen.task_id if seen and seen.is_overdue else None
