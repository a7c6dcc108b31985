"""A driver with more tasks than its lane shall have: what it sends, when, and what it tells again."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.session import lane_client, task_window
from quakegrid.session.lane_tasks import LaneTask
from quakegrid.session.options import Patience, SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config
from quakegrid.testing import fake_lane
from quakegrid.testing.fake_broker import FakeBroker
from quakegrid.testing.fake_lane import FakeLane

SESSION = 77
PATIENCE = Patience(hello_s=10.0, broker_s=10.0, broker_retry_s=0.01, refused_retry_s=0.01, flush_s=0.1)
LIMIT = 4


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[FakeLane]:
    """A lane that only listens."""
    testing.write_cluster_config(tmp_path)
    with FakeLane(config.load_settings(tmp_path, testing.isolated_environ(tmp_path))) as found:
        yield found


@pytest.fixture
def session(lane: FakeLane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session that sends four tasks at once, and has joined."""
    monkeypatch.setattr(task_window, "TASKS", LIMIT)
    monkeypatch.setattr(task_window, "TASKS_PER_WORKER", 0)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    broker = FakeBroker()
    broker.admit(settings, SESSION, lane.endpoint)
    found = Session(settings, SessionOptions("me", b""), PATIENCE, broker.connect)
    found.wait_for_turn(lambda _ahead: None)
    lane.hear("join")
    yield found
    found.close()


def heard(lane: FakeLane, count: int) -> list[int]:
    """The ids of the next tasks."""
    return [lane.hear("submit_task").submit_task.task_id for _ in range(count)]


def test_lane_has_no_more_tasks_than_it_shall_have(lane: FakeLane, session: Session) -> None:
    """The others are sent as outcomes come, the heaviest first."""
    for number in range(10):
        session.submit([b"payload"], LaneTask("op", weight=float(number + 1)))
    first = heard(lane, LIMIT)
    with pytest.raises(queue.Empty):
        lane.heard.get_nowait()
    order = []
    for task_id in (2, 1, 4, 3):
        lane.say(fake_lane.outcome(SESSION, task_id))
        assert session.receive().task_id == task_id
        order += heard(lane, 1)

    assert first == [1, 2, 3, 4]
    assert order == [10, 9, 8, 7]
    assert (session.window.sent_count, session.window.waiting_count) == (LIMIT, 2)


def test_driver_tells_only_what_it_has_sent_again(lane: FakeLane, session: Session) -> None:
    """A new lane, or a connection that broke, costs no more than the window."""
    for _ in range(100):
        session.submit([b"payload"], LaneTask("op"))
    heard(lane, LIMIT)

    session._lane._tell_lane()

    told = []
    while (message := lane.heard.get(timeout=20.0)).WhichOneof("body") != "join":
        told.append(message.submit_task.task_id)
    assert told == [1, 2, 3, 4]


def test_cancelled_task_that_waited_is_never_sent(
    lane: FakeLane, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane hears of those that it has, and then gets what still waits."""
    monkeypatch.setattr(lane_client, "CANCELLED_AT_ONCE", 2)
    ids = [session.submit([b"payload"], LaneTask("op")) for _ in range(8)]
    heard(lane, LIMIT)

    session.cancel([*ids[:3], ids[4], ids[5]])

    cancelled = [*lane.hear("cancel_tasks").cancel_tasks.task_ids]
    cancelled += lane.hear("cancel_tasks").cancel_tasks.task_ids
    assert cancelled == ids[:3]
    assert heard(lane, 2) == ids[6:]
    assert (session.window.sent_count, session.window.waiting_count) == (3, 0)


def test_waiting_task_keeps_its_large_frames_and_their_hashes(
    lane: FakeLane, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its caller clears what it gave; the blob is found when the task is sent, and put before it."""
    monkeypatch.setattr("quakegrid.blobs.table.BLOB_BYTES", 100)
    large = memoryview(bytes(1000))
    for _ in range(LIMIT):
        session.submit([b"payload"], LaneTask("op"))
    frames, digests = [b"head", large, large], {id(large.obj): b"d" * 16}
    task_id = session.submit(frames, LaneTask("op"), digests)
    frames.clear()
    digests.clear()
    heard(lane, LIMIT)

    lane.say(fake_lane.outcome(SESSION, 1))
    session.receive()

    put = lane.heard.get(timeout=20.0)
    submitted = lane.heard.get(timeout=20.0).submit_task
    assert put.put_blob.blob_id == b"d" * 16
    assert submitted.task_id == task_id
    assert [ref.blob_id for ref in submitted.blobs] == [b"d" * 16] * 2
    lane.say(fake_lane.outcome(SESSION, task_id))
    assert session.receive().task_id == task_id
