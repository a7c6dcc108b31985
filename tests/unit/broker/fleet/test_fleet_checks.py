"""The fleet core against events that should not come, and what its `check` finds."""

from __future__ import annotations

from typing import Any

import pytest

from quakegrid.errors import IllegalMoveError
from services.broker.fleet import events as fleet
from services.broker.fleet import placement
from services.broker.fleet.core import Fleet
from services.broker.fleet.state import Worker
from tests.unit.broker.fleet.test_fleet import warm


def busy() -> Fleet:
    """A fleet with a session on both of its cores, and one that waits."""
    core = warm(2)
    core.handle(fleet.SessionRequested(1, (10,)))
    core.handle(fleet.SessionRequested(2, (11,)))
    core.check()
    return core


def test_session_is_requested_once() -> None:
    """A second time is a mistake of the broker."""
    with pytest.raises(IllegalMoveError, match="session 1 was requested twice"):
        busy().handle(fleet.SessionRequested(1, (10,)))


def test_unknown_event_is_a_mistake_of_ours() -> None:
    """It is not passed over."""
    event: Any = "no event"

    with pytest.raises(AssertionError, match="no event"):
        busy().handle(event)


def test_progress_of_a_session_that_has_ended_changes_nothing() -> None:
    """It crossed the end."""
    core = busy()

    assert core.handle(fleet.ProgressMade(99)) == []
    assert core.sessions.keys() == {1, 2}


def test_check_finds_more_sessions_than_may_execute() -> None:
    """`serialize_jobs` is a limit."""
    core = busy()

    core.sessions[2].is_admitted = True

    with pytest.raises(IllegalMoveError, match="2 sessions execute, 1 may"):
        core.check()


def test_check_finds_workers_of_a_session_that_waits() -> None:
    """It may have none yet."""
    core = busy()

    core.workers["run-1"].session_id = 2

    with pytest.raises(IllegalMoveError, match="session 2 has 1 workers and may have none"):
        core.check()


def test_check_finds_more_workers_than_a_session_may_have() -> None:
    """`max_workers` is a limit."""
    core = busy()

    core.sessions[1].max_workers = 1

    with pytest.raises(IllegalMoveError, match="session 1 has more workers than it may"):
        core.check()


def test_drains_end_with_the_last_spare_worker() -> None:
    """Where sessions lack more cores than others can spare, these keep what they need."""
    spare = Worker("run-1", 1, "n0")
    actions: list[fleet.Action] = []

    placement._drain(3, [[], [spare]], actions)

    assert actions == [fleet.DrainWorker(1, "run-1")]
    assert spare.is_draining
