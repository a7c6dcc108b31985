"""How far a calculation is, in one line: the stage at hand, its tasks, and the time that it still needs.

Pure: events of progress in, numbers out. How many stages are to come, only the engine knows; so the time left
is that of the stage at hand.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

# Before so many tasks of a stage are done, nothing is said of the time left: the first ones are not alike.
LEAST_DONE = 2
LEAST_S = 2.0


@dataclass(slots=True)
class Stage:
    """An operation of a calculation, which consists of tasks.

    Args:
        name: of the operation.
        number: 1 for the first one of the calculation.
        begin_s: when the first event of it came.
        done_count: tasks that are done.
        total_count: tasks that there are, as far as is known.
        last_s: when a task was done last.
    """

    name: str
    number: int
    begin_s: float
    done_count: int = 0
    total_count: int = 0
    last_s: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether tasks are left."""
        return self.done_count < self.total_count


class Stages:
    """The stages of the calculations that a command follows."""

    def __init__(self) -> None:
        self._stages: dict[tuple[Hashable, str], Stage] = {}
        self._current: Stage | None = None

    def take(self, job_id: Hashable, name: str, counts: tuple[int, int], now_s: float) -> None:
        """Note how far an operation is.

        Args:
            job_id: its calculation.
            name: of the operation.
            counts: tasks that are done, and all.
            now_s: the time.
        """
        key = (job_id, name)
        if key not in self._stages:
            number = 1 + sum(each_id == job_id for each_id, _ in self._stages)
            self._stages[key] = Stage(name, number, now_s)
        stage = self._stages[key]
        if counts[0] > stage.done_count:
            stage.last_s = now_s
        stage.done_count, stage.total_count = counts
        if stage.is_open or self._current is None or not self._current.is_open:
            self._current = stage

    @property
    def current(self) -> Stage | None:
        """The stage at hand; the last one, if none is open. None before the first."""
        return self._current

    def left_s(self, now_s: float) -> float | None:
        """The time that the stage at hand still needs, if its tasks go on as they did.

        Args:
            now_s: the time.
        Returns:
            Seconds; None if it cannot be told yet, or nothing is open.
        """
        stage = self._current
        if stage is None or not stage.is_open or stage.done_count < LEAST_DONE:
            return None
        spent_s = stage.last_s - stage.begin_s
        if now_s - stage.begin_s < LEAST_S:
            return None
        whole_s = spent_s * stage.total_count / stage.done_count
        return max(0.0, stage.begin_s + whole_s - now_s)
