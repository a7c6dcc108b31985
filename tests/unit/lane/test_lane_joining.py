"""When drivers may join a lane, without sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.transport import lane_sockets
from quakegrid.wire.v1 import lane_pb2
from services.agent.worker import inbox
from services.lane import joining
from tests.support.doors import SESSION, PlayedDoor, bodies, driver, played_door

JOIN = lane_pb2.Join(protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=SESSION)


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedDoor]:
    """A door without sessions."""
    with played_door(tmp_path) as found:
        yield found


def tell(played: PlayedDoor, *task_ids: int) -> None:
    """The driver tells tasks."""
    for task_id in task_ids:
        played.submit(task_id)


def heard_kinds(played: PlayedDoor) -> list[str | None]:
    """What the driver heard since we last asked."""
    return bodies(played.heard(driver()))


def test_lane_waits_for_workers_that_it_refused_before_its_session_was_opened() -> None:
    """Else the driver joins first, and what they run is run again."""
    assert joining.SETTLE_ALONE_S > inbox.REFUSED_RETRY_S + inbox.LOOK_IDLE_S


def test_join_behind_a_refused_task_is_refused_too(played: PlayedDoor) -> None:
    """The broker named the session in between: a driver without its tasks would get what runs run again."""
    tell(played, 1)
    played.open(SESSION)
    tell(played, 2)
    played.say(driver(), join=JOIN)
    first = played.heard(driver())
    tell(played, 1, 2)
    played.say(driver(), join=JOIN)
    played.turn(joining.SETTLE_ALONE_S)
    played.turn()

    assert bodies(first) == ["refused", "refused"]
    assert all(message.refused.is_unknown_session for message in first)
    assert heard_kinds(played) == ["joined"]


def test_driver_joins_at_once_when_it_told_the_refused_tasks_again(played: PlayedDoor) -> None:
    """The lane greeted it between its first tasks and its `Join`: it has told all since."""
    tell(played, 1, 2)
    played.open(SESSION)
    played.heard(driver())

    tell(played, 1, 2, 3)
    played.say(driver(), join=JOIN)
    played.turn(joining.SETTLE_ALONE_S)
    played.turn()

    assert heard_kinds(played) == ["joined"]


def test_refused_sessions_are_bounded(played: PlayedDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many the oldest is forgotten, so drivers of sessions that are over cost nothing for ever."""
    monkeypatch.setattr(joining, "MAX_REFUSED_SESSIONS", 2)
    for session_id in (SESSION, 7, 8):
        played.submit(1, session_id)
    for session_id in (SESSION, 8):
        played.open(session_id)
        played.heard(driver(session_id))
        played.join(session_id)

    assert heard_kinds(played) == ["joined"]
    assert bodies(played.heard(driver(8))) == ["refused"]
