"""The last events, numbered, and no more of them in a second than people and disks can take. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from quakegrid.services.broker.happenings.notable import Happening, HappeningKind

KEPT = 1000
# So many may come at once; then so many in a second.
BURST, RATE_HZ = 200.0, 5.0


@dataclass(frozen=True, slots=True)
class Numbered:
    """An event: its number, which rises, and when it was; `time_s` counts from 1970."""

    id: int
    time_s: float
    happening: Happening


class EventRing:
    """Keeps the last events.

    Args:
        kept: those of earlier brokers, in order.
    """

    def __init__(self, kept: Iterable[Numbered] = ()) -> None:
        self._ring = deque(kept, maxlen=KEPT)
        self.newest_id = self._ring[-1].id if self._ring else 0
        self._tokens, self._filled_s, self._unsaid_count = BURST, 0.0, 0

    def add(self, happening: Happening, time_s: float, now_s: float) -> list[Numbered]:
        """Number an event; returns what is new.

        Args:
            happening: what it is.
            time_s: seconds since 1970.
            now_s: of the monotonic clock.
        Returns:
            The event; nothing if too many came; before it, how many were left out, if some were.
        """
        self._tokens = min(BURST, self._tokens + (now_s - self._filled_s) * RATE_HZ)
        self._filled_s = now_s
        if self._tokens < 1:
            self._unsaid_count += 1
            return []
        self._tokens -= 1
        added = []
        if self._unsaid_count:
            words = f"{self._unsaid_count} more came too fast to be listed; the broker's log has them"
            added.append(self._number(Happening(HappeningKind.LEFT_UNSAID, words, is_trouble=True), time_s))
            self._unsaid_count = 0
        added.append(self._number(happening, time_s))
        return added

    def all(self) -> list[Numbered]:
        """All that are kept, the oldest first."""
        return list(self._ring)

    def since(self, after_id: int, limit: int = KEPT) -> list[Numbered]:
        """The newest of those after a number, at most so many, the oldest first.

        A number that there has not been yet is of events that were lost: all count as later ones.
        """
        if after_id > self.newest_id:
            after_id = 0
        later = itertools.takewhile(lambda event: event.id > after_id, reversed(self._ring))
        return list(itertools.islice(later, limit))[::-1]

    def _number(self, happening: Happening, time_s: float) -> Numbered:
        self.newest_id += 1
        event = Numbered(self.newest_id, time_s, happening)
        self._ring.append(event)
        return event
