"""The fleet core against events that should not come, and what its `check` finds."""

from __future__ import annotations

from typing import Any

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from tests.unit.broker.fleet.test_fleet import warm


def busy() -> Fleet:
    """A fleet with a session on both of its cores, and one that waits."""
    core = warm(2)
    core.handle(fleet.SessionRequested(1, (10,)), 0.0)
    core.handle(fleet.SessionRequested(2, (11,)), 0.0)
    core.check()
    return core


def test_session_is_requested_once() -> None:
    """A second time is a mistake of the broker."""
    with pytest.raises(IllegalMoveError, match="session 1 was requested twice"):
        busy().handle(fleet.SessionRequested(1, (10,)), 0.0)


def test_unknown_event_is_a_mistake_of_ours() -> None:
    """It is not passed over."""
    event: Any = "no event"

    with pytest.raises(AssertionError, match="no event"):
        busy().handle(event, 0.0)


def test_progress_of_a_session_that_has_ended_changes_nothing() -> None:
    """It crossed the end."""
    core = busy()

    assert core.handle(fleet.ProgressMade(99), 0.0) == []
    assert core.sessions.keys() == {1, 2}
