"""What a driver tells of the progress of its tasks, and how often. Pure.

A Starmap keeps tasks that it has not submitted yet. They are counted when progress is told, and not with each
task: a Starmap may have a million.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any, Protocol

Event = dict[str, Any]
# An operation of a job, or of work without one.
Stage = tuple[str, int | None]
# Tasks that a Starmap has not submitted yet: function and arguments.
TaskQueue = Sequence[tuple[Any, Any]]
INTERVAL_S = 0.05
# So much longer for each task that is not submitted yet: to count them takes a tenth of that.
INTERVAL_PER_TASK_S = 1e-6


class StageSession(Protocol):
    """An open session, which tells the broker."""

    def tell_stage(self, job_id: int, operation: str, counts: tuple[int, int, int]) -> None:
        """See `Session.tell_stage`."""


def to_broker_too(
    on_event: Callable[[Event], None], session: Callable[[], StageSession]
) -> Callable[[Event], None]:
    """Tells of progress whom it was told before, and the broker.

    Args:
        on_event: told of progress.
        session: gives the open session.
    """

    def tell(event: Event) -> None:
        on_event(event)
        counts = event["done_count"], event["total_count"], event["replayed_count"]
        session().tell_stage(max(event["job_id"] or 0, 0), event["operation"], counts)

    return tell


class TaskProgress:
    """The counts of all operations of a driver, which may run several jobs with the same operations.

    Args:
        on_event: told of progress.
    """

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self._done: collections.Counter[Stage] = collections.Counter()
        self._submitted: collections.Counter[Stage] = collections.Counter()
        self._replayed: collections.Counter[Stage] = collections.Counter()
        self._due_s = 0.0

    def count_submitted(self, operation: str, calc_id: int | None) -> None:
        """A task was submitted."""
        self._submitted[operation, calc_id] += 1

    def count_done(self, operation: str, calc_id: int | None) -> None:
        """A task has its outcome."""
        self._done[operation, calc_id] += 1

    def count_replayed(self, operation: str, calc_id: int | None) -> None:
        """The outcome that a task has, or gets next, is from a journal."""
        self._replayed[operation, calc_id] += 1

    def tell(self, operation: str, calc_id: int | None, queue: TaskQueue, now_s: float) -> None:
        """Tell how far an operation is, if it is time, or if all of its tasks are done.

        Args:
            operation: of the task that was counted last.
            calc_id: its job.
            queue: what its Starmap has not submitted yet.
            now_s: the time.
        """
        stage = operation, calc_id
        done, total = self._done[stage], self._submitted[stage]
        if now_s < self._due_s and done != total:
            return
        self._due_s = now_s + INTERVAL_S + INTERVAL_PER_TASK_S * len(queue)
        total += sum([getattr(function, "__name__", operation) == operation for function, _ in queue])
        self._on_event(
            {
                "event": "progress",
                "job_id": calc_id,
                "operation": operation,
                "done_count": done,
                "total_count": total,
                "replayed_count": self._replayed[stage],
            }
        )
