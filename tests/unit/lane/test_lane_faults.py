"""A fault of a lane's own ends the session that met it, and no other."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from quakegrid.internal.v1 import orders_pb2
from quakegrid.nodes import worker_end_messages
from quakegrid.services.lane import codec
from quakegrid.services.lane.drivers import joining
from quakegrid.services.lane.payloads import Frame, Payload, Payloads
from quakegrid.services.lane.tasks.events import Action, Event, WorkerJoined
from quakegrid.services.lane.tasks.scheduler import Scheduler
from quakegrid.wire.v1 import lane_pb2
from tests.support.doors import (
    OTHER,
    SESSION,
    PlayedDoor,
    assert_serves,
    bodies,
    driver,
    played_door,
    refusals,
    worker,
)


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedDoor]:
    """A door with two open sessions."""
    with played_door(tmp_path) as found:
        for session_id in (SESSION, OTHER):
            found.open(session_id)
        yield found


def failing(fault: Exception) -> Callable[..., None]:
    """A function of ours that fails."""

    def fail(*_args: object) -> None:
        raise fault

    return fail


def test_fault_of_our_own_ends_one_session_and_is_told(
    played: PlayedDoor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The peer hears of it, the broker is asked to fail that session, the others go on."""
    played.join()
    played.submit(1)
    ours = IndexError("ours, not the peer's")
    monkeypatch.setattr(codec, "submission", failing(ours))

    played.submit(2)
    monkeypatch.undo()
    played.turn()
    told = [message.broken for message in played.told() if message.HasField("broken")]

    assert [(each.session_id, "IndexError" in each.reason) for each in told] == [(SESSION, True)]
    assert "a fault of its own" in refusals(played, driver())[0]
    assert "IndexError" in caplog.text
    played.submit(3)
    assert "session 5 is not open" in refusals(played, driver())[0]
    played.join(OTHER)
    played.order(close=lane_pb2.CloseLaneSession(session_id=SESSION))  # as the broker does then
    assert bodies(played.heard(driver(OTHER))) == ["joined"]


def broken_ids(played: PlayedDoor) -> list[int]:
    """The sessions that the broker was asked to fail since we last looked."""
    return [message.broken.session_id for message in played.told() if message.HasField("broken")]


def test_task_that_cannot_be_read_from_the_disk_ends_one_session(
    played: PlayedDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that was decided for the other sessions is done, and nothing more for that one."""
    read = played.payloads.read
    unreadable = b"on a bad sector"

    def read_from_bad_disk(payload: Payload) -> Sequence[Frame]:
        if payload.frames == unreadable:
            raise OSError(errno.EIO, "Input/output error")
        return read(payload)

    monkeypatch.setattr(Payloads, "read", lambda _payloads, payload: read_from_bad_disk(payload))
    for session_id in (SESSION, OTHER):
        played.join(session_id)
        for name in ("a", "b"):
            played.ready(f"{name}{session_id}", session_id)
    for task_id in (1, 2):
        task = lane_pb2.SubmitTask(session_id=SESSION, task_id=task_id, operation="op")
        played.say(driver(), unreadable, submit_task=task)
        played.submit(task_id, OTHER)
    played.turn()

    assert broken_ids(played) == [SESSION]
    ours = [kind for name in ("a5", "b5") for kind in bodies(played.heard(worker(name)))]
    assert ours == ["stop", "stop"]
    theirs = [kind for name in ("a6", "b6") for kind in bodies(played.heard(worker(name, OTHER)))]
    assert theirs == ["run_task", "run_task"]
    played.order(close=lane_pb2.CloseLaneSession(session_id=SESSION))  # as the broker does then
    played.turn()
    assert broken_ids(played) == []


def test_early_message_that_meets_a_fault_when_a_lane_has_settled_ends_one_session(
    played: PlayedDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What workers said before the driver is played back at the end of a turn, where no peer is answered."""
    for session_id in (SESSION, OTHER):
        played.submit(1, session_id)
        played.ready("w1", session_id)
        played.join(session_id)
    played.turn(joining.SETTLE_S)
    handle = Scheduler.handle

    def handle_badly(core: Scheduler, event: Event, now_s: float) -> list[Action]:
        if isinstance(event, WorkerJoined) and event.session_id == SESSION:
            raise IndexError("ours, not the peer's")
        return handle(core, event, now_s)

    monkeypatch.setattr(Scheduler, "handle", handle_badly)
    played.turn()

    assert broken_ids(played) == [SESSION]
    assert bodies(played.heard(worker("w1", OTHER))) == ["run_task"]


def test_order_that_meets_a_fault_ends_the_session_that_it_names(
    played: PlayedDoor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also while that session is opened; the broker hears of each."""
    monkeypatch.setattr(worker_end_messages, "decode", failing(IndexError("ours")))
    played.order(worker_lost=orders_pb2.WorkerEnd(session_id=SESSION, worker_id="w1", reason="lost"))
    with monkeypatch.context() as patch:
        patch.setattr(
            "quakegrid.services.lane.performer.TaskRecorder", failing(OSError(errno.EIO, str(tmp_path)))
        )
        played.open(7)
    with monkeypatch.context() as patch:
        patch.setattr(
            "quakegrid.services.lane.performer.SessionMail", failing(OSError(errno.EIO, str(tmp_path)))
        )
        played.open(8)
    played.turn()

    assert broken_ids(played) == [SESSION, 7, 8]
    played.open(SESSION)
    played.open(7)
    assert_serves(played)
