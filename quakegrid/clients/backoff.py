"""Pauses between tries that grow, with jitter: clients that wait for one service do not ask it all at once.

Pure: it computes pauses and sleeps none of them. Each loop that tries again has one.
"""

from __future__ import annotations

import random

DEFAULT_JITTER = 0.5


class Backoff:
    """Pauses that double from the first to the longest one.

    Args:
        first_s: the first pause, > 0.
        most_s: no pause is longer than this, before jitter.
        jitter: from 0 to 1; a pause is multiplied by a random number between `1 - jitter` and `1 + jitter`.
        source: of the jitter; None for Python's own, which differs in each process.
    """

    __slots__ = ("_first_s", "_jitter", "_most_s", "_random", "_step_s")

    def __init__(
        self,
        first_s: float,
        most_s: float,
        jitter: float = DEFAULT_JITTER,
        source: random.Random | None = None,
    ) -> None:
        if not (0 < first_s <= most_s and 0 <= jitter <= 1):
            raise ValueError(f"no backoff: first_s={first_s}, most_s={most_s}, jitter={jitter}")
        self._first_s, self._most_s, self._jitter = first_s, most_s, jitter
        self._random = random.random if source is None else source.random
        self._step_s = first_s

    def next_s(self) -> float:
        """The pause before the next try; the one after it is twice as long, up to the longest."""
        step_s = self._step_s
        self._step_s = min(2 * step_s, self._most_s)
        return step_s * (1 + self._jitter * (2 * self._random() - 1))

    def reset(self) -> None:
        """Begin with the first pause again, after a try that succeeded."""
        self._step_s = self._first_s
