"""The places of lanes against events that should not come, and what their `check` finds."""

from __future__ import annotations

from typing import Any

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.services.broker.lanes import ports as core
from quakegrid.services.broker.lanes.ports import LanePlaces
from tests.unit.broker.test_lane_places import opened


def placed() -> LanePlaces:
    """Session 7 on the lane of port 1, and another lane that is open on port 2."""
    places = opened(limit=2)
    places.handle(core.SessionArrived(7), 0.0)
    places.handle(core.LaneOpened(2), 0.0)
    places.check()
    return places


def test_unknown_event_is_a_mistake_of_ours() -> None:
    """It is not passed over."""
    event: Any = "no event"

    with pytest.raises(AssertionError, match="no event"):
        placed().handle(event, 0.0)


def test_check_finds_two_lanes_on_one_port() -> None:
    """The second could not listen."""
    places = placed()

    places.lanes[2].port = 1

    with pytest.raises(IllegalMoveError, match=r"lanes use ports \[1, 1\] of \[1, 2, 3, 4\]"):
        places.check()


def test_check_finds_more_lanes_than_there_may_be() -> None:
    """The limit is passed only for sessions of an earlier broker."""
    places = placed()

    places.limit = 1
    places.lanes[3] = core.LanePlace(3, 3)

    with pytest.raises(IllegalMoveError, match="3 lanes, 1 may be"):
        places.check()


def test_check_finds_a_session_on_two_lanes() -> None:
    """Its peers would look for it on either."""
    places = placed()

    places.lanes[2].task_counts[7] = 0

    with pytest.raises(IllegalMoveError, match=r"a session is in two places: \[7, 7\]"):
        places.check()


def test_check_finds_a_session_that_waits_although_every_lane_is_open() -> None:
    """Nothing would place it."""
    places = placed()

    places._waiting[8] = None

    with pytest.raises(IllegalMoveError, match=r"sessions \[8\] wait for no lane"):
        places.check()
