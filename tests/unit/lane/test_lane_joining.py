"""When drivers may join a lane, without sockets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.lane import peers
from quakegrid.services.lane.drivers import joining
from quakegrid.services.lane.tasks.events import Peer, SessionId, TaskId
from quakegrid.transport import lane_sockets
from quakegrid.wire.v1 import lane_pb2
from tests.support.doors import SESSION, PlayedDoor, bodies, driver, played_door, worker

JOIN = lane_pb2.Join(protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=SESSION)


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedDoor]:
    """A door without sessions."""
    with played_door(tmp_path) as found:
        yield found


def order_workers(played: PlayedDoor, *worker_ids: str, session_id: int = SESSION) -> None:
    """The broker knows all workers of a session."""
    for part in worker_ids:
        played.order(workers=lane_pb2.SessionWorkers(session_id=session_id, worker_ids=[part]))
    played.order(workers=lane_pb2.SessionWorkers(session_id=session_id, is_last=True))


def tell(played: PlayedDoor, *task_ids: int) -> None:
    """The driver tells tasks."""
    for task_id in task_ids:
        played.submit(task_id)


def heard_kinds(played: PlayedDoor) -> list[str | None]:
    """What the driver heard since we last asked."""
    return bodies(played.heard(driver()))


def test_lane_waits_for_workers_that_it_refused_before_its_session_was_opened(played: PlayedDoor) -> None:
    """It asks them at once; else the driver joins first, and what they run is run again."""
    lease = lane_pb2.Lease(session_id=SESSION, task_id=1, attempt=1)
    peer = played.ready("w1", SESSION, lease)
    assert bodies(played.heard(peer)) == ["refused"]

    played.open(SESSION)
    assert bodies(played.heard(peer)) == ["hello"]
    tell(played, 1)
    played.say(driver(), join=JOIN)
    played.turn()
    assert heard_kinds(played) == []
    played.ready("w2")  # a new one; it is not the one that is awaited
    order_workers(played, "w1")
    played.turn()
    assert heard_kinds(played) == []
    played.ready("w1", SESSION, lease)
    played.turn()
    assert heard_kinds(played) == ["joined"]

    played.finish("w1", 1)
    played.turn()
    assert heard_kinds(played) == ["outcome"]


def test_worker_that_is_lost_is_not_waited_for(played: PlayedDoor) -> None:
    """Its agent tells of its end, in place of its own word."""
    played.open(SESSION)
    order_workers(played, "w1")
    tell(played, 1)
    played.say(driver(), join=JOIN)
    played.turn()
    assert heard_kinds(played) == []

    played.order(worker_lost=orders_pb2.WorkerEnd(session_id=SESSION, worker_id="w1", reason="killed"))
    played.turn()

    assert "joined" in heard_kinds(played)


def test_driver_joins_at_once_when_there_are_no_workers(played: PlayedDoor) -> None:
    """The broker says so, when all nodes have told it what they have; nobody is waited for."""
    played.open(SESSION)
    order_workers(played)
    order_workers(played, "w1", session_id=7)  # it is over

    tell(played, 1)
    played.say(driver(), join=JOIN)
    played.turn()

    assert heard_kinds(played) == ["joined"]


def test_workers_that_are_turned_away_are_bounded(
    played: PlayedDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of sessions that are over never come back; they tell again by themselves if theirs is opened."""
    monkeypatch.setattr(peers, "MAX_TURNED_AWAY", 2)
    told = [played.ready(f"w{number}") for number in range(4)]

    played.open(SESSION)

    assert [bodies(played.heard(peer)) for peer in told] == [["refused"]] * 3 + [["refused", "hello"]]


def test_join_behind_a_refused_task_is_refused_too(played: PlayedDoor) -> None:
    """The broker named the session in between: a driver without its tasks would get what runs run again."""
    tell(played, 1)
    played.open(SESSION)
    tell(played, 2)
    played.say(driver(), join=JOIN)
    first = played.heard(driver())
    tell(played, 1, 2)
    played.say(driver(), join=JOIN)
    played.turn(joining.SETTLE_S)
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
    played.turn(joining.SETTLE_S)
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


def connect_anew(played: PlayedDoor) -> None:
    """The driver's link broke, and it answers the lane's probe on the next one."""
    played.take(driver(), lane_sockets.PROBE)


def given(played: PlayedDoor, peer: bytes) -> list[int]:
    """The tasks that a worker was given since we last asked."""
    return [message.run_task.lease.task_id for message in played.heard(peer) if message.HasField("run_task")]


def test_task_that_ends_while_its_driver_tells_it_again_is_not_run_again(played: PlayedDoor) -> None:
    """The outcome would cross the driver's word, after which the lane does not know the task any more."""
    played.open(SESSION)
    crew = [played.ready(worker_id) for worker_id in ("w1", "w2")]
    played.join()
    tell(played, 1, 2)
    played.turn()
    assert [given(played, peer) for peer in crew] == [[1], [2]]
    heard_kinds(played)

    connect_anew(played)
    played.finish("w1", 1)
    played.turn()
    assert heard_kinds(played) == ["hello"]
    tell(played, 1, 2)
    played.say(driver(), received=lane_pb2.Received(session_id=SESSION, byte_count=1))
    played.turn()
    assert heard_kinds(played) == []
    played.join()
    played.turn()

    assert heard_kinds(played) == ["joined", "outcome"]
    assert [given(played, peer) for peer in crew] == [[], []]
    played.finish("w2", 2)
    played.turn()
    assert heard_kinds(played) == ["outcome"]


def test_outcome_of_the_turn_in_which_a_driver_connects_anew_comes_before_the_hello(
    played: PlayedDoor,
) -> None:
    """So the driver does not tell its task again."""
    played.open(SESSION)
    played.ready("w1")
    played.join()
    tell(played, 1)
    played.turn()
    heard_kinds(played)

    played.finish("w1", 1)
    connect_anew(played)

    assert heard_kinds(played) == ["outcome", "hello"]


def test_task_that_fails_while_its_driver_tells_it_again_is_not_run_again(played: PlayedDoor) -> None:
    """Its workers died as often as they may."""
    played.open(SESSION)
    played.join()
    tell(played, 1)
    for worker_id in ("w1", "w2"):
        played.ready(worker_id)
        played.turn()
        if worker_id == "w2":
            heard_kinds(played)
            connect_anew(played)
        end = orders_pb2.WorkerEnd(session_id=SESSION, worker_id=worker_id, reason="killed")
        played.order(worker_lost=end)
    tell(played, 1)
    peer = played.ready("w3")
    played.turn()
    assert "task_failed" not in heard_kinds(played)
    played.join()
    played.turn()

    assert heard_kinds(played) == ["joined", "task_failed"]
    assert given(played, peer) == []


def test_failures_that_wait_for_their_driver_do_not_count_among_what_it_takes(played: PlayedDoor) -> None:
    """A driver confirms outcomes only; what it never confirms would fill its link for ever."""
    played.open(SESSION)
    played.join()
    session = played.door._sessions[SessionId(SESSION)]
    for task_id in range(1, 4):
        session.deliver_failure(driver(), TaskId(task_id), b"")
    session.hold()
    session.deliver_failure(driver(), TaskId(4), b"")
    session.join(driver())

    assert session._sent_bytes == session._parked_bytes == 0
    assert not session.parked


def join_number(played: PlayedDoor, hello_number: int, message_count: int) -> None:
    """The driver joins as one does that knows numbers."""
    join = lane_pb2.Join(
        protocol_version=lane_sockets.PROTOCOL_VERSION,
        session_id=SESSION,
        hello_number=hello_number,
        message_count=message_count,
    )
    played.say(driver(), join=join)


def heard_number(played: PlayedDoor) -> int:
    """The number of the last hello to the driver."""
    return [each.hello.number for each in played.heard(driver()) if each.HasField("hello")][-1]


def test_join_behind_lost_messages_is_refused(played: PlayedDoor) -> None:
    """The connection broke in the middle of what the driver told; the rest came before the lane knew."""
    played.open(SESSION)
    connect_anew(played)
    number = heard_number(played)
    tell(played, 1, 3)

    join_number(played, number, 4)
    refused = played.heard(driver())
    tell(played, 1, 2, 3)
    join_number(played, number, 4)
    played.turn(joining.SETTLE_S)
    played.turn()

    assert [(each.refused.is_join, each.refused.is_unknown_session) for each in refused] == [(True, True)]
    assert "lost" in refused[0].refused.reason
    assert heard_kinds(played) == ["joined"]


def test_join_that_answers_an_earlier_hello_is_ignored(played: PlayedDoor) -> None:
    """The driver tells everything again; what the lane did meanwhile would be new to it."""
    played.open(SESSION)
    peer = played.ready("w1")
    connect_anew(played)
    earlier = heard_number(played)
    connect_anew(played)
    number = heard_number(played)

    tell(played, 1)
    join_number(played, earlier, 2)
    played.turn(joining.SETTLE_S)
    played.turn()
    early = heard_kinds(played), given(played, peer)
    tell(played, 1)
    join_number(played, number, 2)
    played.turn(joining.SETTLE_S)
    played.turn()

    assert early == ([], [])
    assert heard_kinds(played) == ["joined"]
    assert given(played, peer) == [1]


def test_join_that_settles_is_ignored_when_the_driver_connects_anew(played: PlayedDoor) -> None:
    """It tells everything again; it does not wait longer for its workers than it would have."""
    played.open(SESSION)
    connect_anew(played)
    tell(played, 1)
    join_number(played, heard_number(played), 2)
    played.turn(joining.SETTLE_S / 2)

    connect_anew(played)
    number = heard_number(played)
    order_workers(played)
    played.turn(joining.SETTLE_S)
    played.turn()
    early = heard_kinds(played)
    assert played.door._joining.deadlines_s == []
    tell(played, 1)
    join_number(played, number, 2)
    played.turn()

    assert early == []
    assert heard_kinds(played) == ["joined"]


def test_driver_that_answers_an_earlier_lane_is_greeted(played: PlayedDoor) -> None:
    """Its join comes before it knows of the new connection."""
    played.open(SESSION)

    join_number(played, 12, 1)
    number = heard_number(played)
    join_number(played, number, 1)

    assert heard_kinds(played) == ["joined"]


def test_peer_that_proves_no_name_is_greeted_and_not_kept(played: PlayedDoor) -> None:
    """It may be of another version; who it is says its next message."""
    played.take(b"driver 5 " + b"0" * 64, lane_sockets.PROBE)

    assert bodies(played.heard(b"driver 5 " + b"0" * 64)) == ["hello"]
    assert not played.door._greetings


def ready_number(played: PlayedDoor, hello_number: int) -> Peer:
    """A worker says that it has nothing, and which hello it answers."""
    peer = worker("w1")
    told = lane_pb2.WorkerReady(
        protocol_version=lane_sockets.PROTOCOL_VERSION,
        session_id=SESSION,
        worker_id="w1",
        node="node",
        hello_number=hello_number,
    )
    played.say(peer, worker_ready=told)
    return peer


def test_worker_that_answers_an_earlier_hello_is_not_heard(played: PlayedDoor) -> None:
    """It was refused and told its lane again by itself, when the hello of the open session was on its way."""
    peer = worker("w1")
    played.take(peer, lane_sockets.PROBE)
    first = played.heard(peer)[0].hello.number
    ready_number(played, first)
    played.open(SESSION)
    played.join()
    tell(played, 1)
    second = played.heard(peer)[-1].hello.number

    ready_number(played, first)
    played.turn()
    before = given(played, peer)
    ready_number(played, second)
    played.turn()

    assert before == []
    assert given(played, peer) == [1]
    played.take(peer, lane_sockets.PROBE)
    assert played.heard(peer)[-1].hello.number > second


def test_refused_join_says_that_it_is_one(played: PlayedDoor) -> None:
    """So the driver knows that no answer to its join is to come."""
    tell(played, 1)
    played.say(driver(), join=JOIN)

    assert [message.refused.is_join for message in played.heard(driver())] == [False, True]
