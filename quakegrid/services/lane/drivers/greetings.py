"""The numbers of a lane's hellos, and whether what a driver tells before it joins is whole. Pure.

A driver answers a hello with all its tasks and a join. Meanwhile its connection may break: a part of what it
told is lost, and the rest goes out on the next connection, before the lane knows of that one. So a join says
which hello it answers, and how many messages there were.
"""

from __future__ import annotations

import enum
from collections.abc import Container
from dataclasses import dataclass

from quakegrid.services.lane.tasks.events import Peer, SessionId

# Drivers that were greeted, far more than a lane has. Of more, those without an open session are forgotten.
MAX_GREETINGS = 10_000


class JoinKind(enum.Enum):
    """What a join is."""

    WHOLE = enum.auto()  # all messages since the last hello, or since the join before, have come
    TORN = enum.auto()  # some were lost with a connection
    EARLIER = enum.auto()  # it answers a hello before the last one, whose answer is to come
    UNASKED = enum.auto()  # the lane has not greeted the driver, or has forgotten that


@dataclass(slots=True)
class Greeting:
    """The last hello to a driver.

    `message_count` is that of its messages since the hello, or since its last join.
    """

    session_id: SessionId
    number: int
    message_count: int = 0


class Greetings:
    """The hellos of one lane.

    Args:
        last_number: of the lane before this one, or any number; drivers may still answer its hellos.
    """

    def __init__(self, last_number: int) -> None:
        self._last_number = last_number
        # Whoever takes the messages of drivers counts them here.
        self.by_driver: dict[Peer, Greeting] = {}

    def next_number(self) -> int:
        """The number of a hello to any peer."""
        self._last_number += 1
        return self._last_number

    def greet(self, driver: Peer, session_id: SessionId, open_ids: Container[SessionId]) -> int:
        """The number of a new hello; what the driver told before does not count any more."""
        if len(self.by_driver) >= MAX_GREETINGS:
            strange = [peer for peer, known in self.by_driver.items() if known.session_id not in open_ids]
            for peer in strange:
                del self.by_driver[peer]
        number = self.next_number()
        self.by_driver[driver] = Greeting(session_id, number)
        return number

    def judge(self, driver: Peer, hello_number: int, message_count: int) -> JoinKind:
        """Take a join, which begins the count of messages anew.

        Args:
            driver: that joins.
            hello_number: of the hello that it answers.
            message_count: what it has sent since then, or since its last join.
        """
        greeting = self.by_driver.get(driver)
        if greeting is None:
            return JoinKind.UNASKED
        count, greeting.message_count = greeting.message_count, 0
        if hello_number != greeting.number:
            return JoinKind.EARLIER
        return JoinKind.WHOLE if message_count == count else JoinKind.TORN
