"""Where a broker's session ids begin. Pure.

They grow from broker to broker: records of tasks are ordered by them, and workers of a session that an
earlier broker had must never become those of another one. The clock gives that, but may be set back.
"""

from __future__ import annotations

from collections.abc import Iterable

# What is further ahead of the clock than a clock is ever wrong is no id that a broker gave.
MAX_AHEAD_MS = 400 * 24 * 3600 * 1000


def first_id(clock_ms: int, known_ids: Iterable[int]) -> int:
    """The first id to give: the clock's, or the one after the largest that is known.

    Args:
        clock_ms: milliseconds since the epoch, by the wall clock.
        known_ids: ids of sessions whose records are kept.
    """
    return max([clock_ms, *(each + 1 for each in known_ids if each < clock_ms + MAX_AHEAD_MS)])
