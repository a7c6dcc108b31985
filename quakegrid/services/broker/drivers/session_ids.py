"""Where a broker's session ids begin. Pure.

Ids grow from broker to broker. Records of tasks are ordered by them, and a new session must never have the id
of an earlier broker's session, whose workers may still run. The clock gives such ids, but may be set back.
"""

from __future__ import annotations

from collections.abc import Iterable

# An id that is further ahead of the clock than this was not given by a broker, even one with a wrong clock.
MAX_AHEAD_MS = 400 * 24 * 3600 * 1000


def first_id(clock_ms: int, known_ids: Iterable[int]) -> int:
    """The first id to give: that of the clock, or the one after the largest known id.

    Args:
        clock_ms: milliseconds since the epoch, by the wall clock.
        known_ids: ids of sessions whose records are kept.
    """
    return max([clock_ms, *(each + 1 for each in known_ids if each < clock_ms + MAX_AHEAD_MS)])
