"""Hellos to drivers, and which joins answer them."""

from __future__ import annotations

import pytest

from quakegrid.services.lane.drivers import greetings
from quakegrid.services.lane.drivers.greetings import Greetings, JoinKind
from quakegrid.services.lane.tasks.events import Peer, SessionId

DRIVER, OTHER = Peer(b"driver 5"), Peer(b"driver 6")
SESSION = SessionId(5)


def hear(found: Greetings, count: int) -> None:
    """Messages of the driver come."""
    found.by_driver[DRIVER].message_count += count


def test_join_that_answers_the_last_hello_is_whole() -> None:
    """Messages are counted from the hello on, and from each join."""
    found = Greetings(100)

    first = found.greet(DRIVER, SESSION, ())
    hear(found, 3)
    kinds = [found.judge(DRIVER, first, 3)]
    hear(found, 2)
    kinds.append(found.judge(DRIVER, first, 2))
    second = found.greet(DRIVER, SESSION, ())
    hear(found, 1)
    kinds.append(found.judge(DRIVER, second, 1))

    assert kinds == [JoinKind.WHOLE] * 3
    assert (first, second) == (101, 102)


def test_join_that_answers_an_earlier_hello_is_told_apart() -> None:
    """It begins the count anew, as it does for its driver."""
    found = Greetings(0)
    first = found.greet(DRIVER, SESSION, ())
    second = found.greet(DRIVER, SESSION, ())
    hear(found, 4)

    kind = found.judge(DRIVER, first, 4)
    hear(found, 5)

    assert kind is JoinKind.EARLIER
    assert found.judge(DRIVER, second, 5) is JoinKind.WHOLE


def test_join_behind_lost_messages_is_torn() -> None:
    """The driver tells everything again, and then it may be whole."""
    found = Greetings(0)
    number = found.greet(DRIVER, SESSION, ())
    hear(found, 2)

    kind = found.judge(DRIVER, number, 3)
    hear(found, 3)

    assert kind is JoinKind.TORN
    assert found.judge(DRIVER, number, 3) is JoinKind.WHOLE


def test_join_of_a_driver_that_was_not_greeted_was_not_asked_for() -> None:
    """It answers the hello of an earlier lane."""
    assert Greetings(0).judge(DRIVER, 3, 1) is JoinKind.UNASKED


def test_greetings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drivers of sessions that are over cost nothing for ever; those of open sessions are kept."""
    monkeypatch.setattr(greetings, "MAX_GREETINGS", 2)
    found = Greetings(0)
    number = found.greet(DRIVER, SESSION, ())
    found.greet(OTHER, SessionId(6), ())

    found.greet(Peer(b"driver 7"), SessionId(7), {SESSION})

    assert list(found.by_driver) == [DRIVER, b"driver 7"]
    assert found.judge(DRIVER, number, 0) is JoinKind.WHOLE
