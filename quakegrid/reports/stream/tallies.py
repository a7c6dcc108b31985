"""The counts of one operation, in memory that does not grow with the number of its tasks. Pure."""

from __future__ import annotations

import heapq
import math
from array import array
from dataclasses import dataclass, field

# Durations are counted by classes of this ratio, from a microsecond on, so that a median is known to 5 %.
CLASS_RATIO, LEAST_S, CLASSES = 2**0.125, 1e-6, 400
# Of the longest tasks.
MOST_LONGEST = 20
_STEP = math.log(CLASS_RATIO)


def _no_classes() -> array[int]:
    return array("Q", [0]) * CLASSES


@dataclass(slots=True)
class Tally:
    """The counts of one operation; `longest` has (duration, task, worker number) of its longest tasks."""

    name: str
    task_count: int = 0
    lost_count: int = 0
    total_s: float = 0.0
    max_s: float = 0.0
    byte_count: int = 0
    peak_memory_bytes: int = 0
    classes: array[int] = field(default_factory=_no_classes)
    longest: list[tuple[float, int, int]] = field(default_factory=list)

    def add(self, duration_s: float, task_id: int, worker: int) -> None:
        """Count a task that was done."""
        self.task_count += 1
        self.total_s += duration_s
        self.max_s = max(self.max_s, duration_s)
        place = int(math.log(max(duration_s, LEAST_S) / LEAST_S) / _STEP)
        self.classes[min(CLASSES - 1, place)] += 1
        if len(self.longest) < MOST_LONGEST:
            heapq.heappush(self.longest, (duration_s, task_id, worker))
        elif duration_s > self.longest[0][0]:
            heapq.heapreplace(self.longest, (duration_s, task_id, worker))

    @property
    def median_s(self) -> float:
        """The median of the durations, to 5 %; 0 if there are none."""
        left = (self.task_count + 1) // 2
        place = 0
        while left > 0:
            left -= self.classes[place]
            place += 1
        return min(self.max_s, LEAST_S * CLASS_RATIO ** (place - 0.5)) if place else 0.0
