"""The rule for workers that are stopped (SIGSTOP): one that stays so holds its task for ever, and is killed.

Pure: looks in, stops out. Counts looks instead of seconds, so no time-out runs while the agent itself is
stopped, such as with its whole process group.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.agent.rules.memory import WorkerToStop


@dataclass(slots=True)
class StoppedWorkers:
    """The workers of one node that are stopped.

    Args:
        timeout_s: how long one may be; 0 for ever.
        look_s: seconds between two looks.
    """

    timeout_s: float
    look_s: float
    _look_counts: dict[str, int] = field(init=False, default_factory=dict)

    def handle(self, stopped: Iterable[str]) -> list[WorkerToStop]:
        """Take a look; say whom to kill.

        Args:
            stopped: names of the workers that are stopped now.
        """
        counts = self._look_counts
        self._look_counts = {name: counts.get(name, -1) + 1 for name in stopped}
        return [
            WorkerToStop(name, f"it was stopped (SIGSTOP) for {count * self.look_s:.0f} s")
            for name, count in self._look_counts.items()
            if 0 < self.timeout_s <= count * self.look_s
        ]
