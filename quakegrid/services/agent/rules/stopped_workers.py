"""The rule for stopped workers (SIGSTOP): one that stays stopped is killed, since it holds a task.

Pure: takes the names of stopped workers, returns those to kill. Counts looks instead of seconds, so no time-
    out
runs while the agent itself is stopped, for example with its whole process group.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from quakegrid.services.agent.rules.memory import WorkerToStop


@dataclass(slots=True)
class StoppedWorkers:
    """The workers of one node that are stopped.

    Args:
        timeout_s: how long a worker may be stopped; 0 for ever.
        look_s: seconds between two looks.
    """

    timeout_s: float
    look_s: float
    _look_counts: dict[str, int] = field(init=False, default_factory=dict)

    def handle(self, stopped: Iterable[str]) -> list[WorkerToStop]:
        """Take one look; returns the workers to kill.

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
