"""Wakes the followers of a log or of the list of jobs when a commit has changed it.

Everything happens in the event loop, except `Bells.ring`, which the writer's thread calls after each commit.
Followers are woken together. The more there are, the less often they are woken, so the work stays bounded.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from quakegrid.errors import PeerUnreachableError, QuakeGridError

# Sending to one follower takes the event loop about this long.
PAUSE_PER_FOLLOWER_S = 0.0001
LONGEST_PAUSE_S = 0.05


class TooManyFollowersError(QuakeGridError):
    """There are too many followers of logs or jobs."""

    reason = "TOO_MANY_FOLLOWERS"


@dataclass(slots=True, eq=False)
class Bell:
    """The event that the followers of one subject wait for.

    Attributes:
        subject: what they follow, such as the id of a job.
        turn: number of the last wake-up, counted over all bells.
        last_id: the last row that was sent to any of these followers.
        rung: set at the next wake-up. Take it before reading, so that no change in between is missed.
    """

    subject: int
    turn: int
    last_id: int = 0
    rung: asyncio.Event = field(default_factory=asyncio.Event)
    follower_count: int = 0
    last_rung_s: float = 0.0
    is_scheduled: bool = False


# Reads ahead what the followers of a bell will ask for in a turn. They are woken when it is read.
ReadAhead = Callable[[Bell, int], "asyncio.Future[Any]"]


class Bells:
    """The bells of all subjects that are followed. Made in the event loop that serves the followers.

    Args:
        most_followers: of all subjects together.
        refusal: the message for a follower beyond the limit.
        read_ahead: called before each wake-up, if reads are shared.
    """

    def __init__(self, most_followers: int, refusal: str, read_ahead: ReadAhead | None = None) -> None:
        self._most_followers = most_followers
        self._refusal = refusal
        self._read_ahead = read_ahead
        self._loop = asyncio.get_running_loop()
        self._bells: dict[int, Bell] = {}
        self._turns = itertools.count()
        self._follower_count = 0
        self._is_closed = False

    def ring(self, subjects: set[int]) -> None:
        """Note that these subjects have changed; for any thread, after the commit.

        A subject that gets its first follower just now needs no bell, since it is read after the commit.
        """
        followed = [subject for subject in subjects if subject in self._bells]
        if followed:
            self._loop.call_soon_threadsafe(self._schedule, followed)

    def close(self) -> None:
        """Wake all followers; each of them then fails in `check_open`."""
        self._is_closed = True
        for bell in self._bells.values():
            bell.rung.set()

    def check_open(self) -> None:
        """Refuse to go on when the dbserver stops.

        Raises:
            PeerUnreachableError: the dbserver stops.
        """
        if self._is_closed:
            raise PeerUnreachableError("the dbserver is stopping")

    @contextmanager
    def follow(self, subject: int) -> Iterator[Bell]:
        """Be a follower of a subject.

        Raises:
            TooManyFollowersError: there are too many followers.
        """
        if self._follower_count >= self._most_followers:
            raise TooManyFollowersError(self._refusal)
        bell = self._bells.get(subject)
        if bell is None:
            bell = self._bells[subject] = Bell(subject, next(self._turns))
        self._follower_count += 1
        bell.follower_count += 1
        try:
            yield bell
        finally:
            self._follower_count -= 1
            bell.follower_count -= 1
            if not bell.follower_count:
                del self._bells[subject]

    def _schedule(self, subjects: list[int]) -> None:
        """Wake the followers soon, but not before they have had time for the last change."""
        for subject in subjects:
            bell = self._bells.get(subject)
            if bell is None or bell.is_scheduled:
                continue
            bell.is_scheduled = True
            pause_s = min(self._follower_count * PAUSE_PER_FOLLOWER_S, LONGEST_PAUSE_S)
            self._loop.call_at(max(bell.last_rung_s + pause_s, self._loop.time()), self._ring_now, bell)

    def _ring_now(self, bell: Bell) -> None:
        """Read what most followers will ask for, then wake them, so that none of them waits for the read."""
        bell.is_scheduled = False
        bell.last_rung_s = self._loop.time()
        if self._is_closed:
            return
        turn = next(self._turns)
        if self._read_ahead is None:
            _wake(bell, turn)
        else:
            self._read_ahead(bell, turn).add_done_callback(lambda _: _wake(bell, turn))


def _wake(bell: Bell, turn: int) -> None:
    bell.turn = max(bell.turn, turn)
    bell.rung.set()
    bell.rung = asyncio.Event()
