"""The workers of a session, by number: their nodes, and when they were there. Pure."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass


@dataclass(slots=True)
class WorkerSpan:
    """A worker; `left_s` is 0 while it is there. Seconds since the session was opened."""

    worker_id: str
    node: str = ""
    joined_s: float = 0.0
    left_s: float = 0.0
    reason: str = ""


class Lives:
    """The workers in the order in which they came; as many as the records of a session name."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.all: list[WorkerSpan] = []

    def number(self, worker_id: str) -> int:
        """The number of a worker, a new one for a new worker."""
        number = self._numbers.get(worker_id)
        if number is None:
            number = self._numbers[worker_id] = len(self.all)
            self.all.append(WorkerSpan(worker_id))
        return number

    def order(self, group: int) -> list[int]:
        """Rows as they are shown: by node, if each has one worker; groups of workers as they came."""
        count = math.ceil(len(self.all) / group)
        if group > 1:
            return list(range(count))
        return sorted(range(count), key=lambda row: (self.all[row].node, row))

    def held(self, begin_s: float, column_s: float, column_count: int, end_s: float) -> list[float]:
        """The mean number of workers that were there, by column; costs no more for long lives."""
        parts, steps = [0.0] * column_count, [0] * (column_count + 1)
        for life in self.all:
            first = (life.joined_s - begin_s) / column_s
            last = ((life.left_s or end_s) - begin_s) / column_s
            first, last = max(0.0, first), min(float(column_count), last)
            if last <= first:
                continue
            low, high = int(first), min(int(last), column_count - 1)
            if low == high:
                parts[low] += last - first
                continue
            parts[low] += low + 1 - first
            parts[high] += last - high
            steps[low + 1] += 1
            steps[high] -= 1
        return [part + whole for part, whole in zip(parts, itertools.accumulate(steps), strict=False)]
