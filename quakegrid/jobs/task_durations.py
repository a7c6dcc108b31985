"""How long tasks of each kind take, learnt from those that ended. Pure."""

from __future__ import annotations

# Estimates rise at once and fall slowly: handing out too much costs more than handing out too little.
_FALL = 0.3
# Kinds whose durations are remembered; a program that invents more of them is not estimated better.
MAX_KINDS = 10_000


class TaskDurations:
    """Estimates by kind of task, such as the name of its function."""

    __slots__ = ("known_s",)

    def __init__(self) -> None:
        self.known_s: dict[str, float] = {}  # read for each task; changed by `learn` only

    def learn(self, kind: str, duration_s: float) -> None:
        """Take a measurement."""
        known_s = self.known_s.get(kind)
        if known_s is None:
            if len(self.known_s) >= MAX_KINDS:
                return
        elif duration_s < known_s:
            duration_s = known_s + _FALL * (duration_s - known_s)
        self.known_s[kind] = duration_s
