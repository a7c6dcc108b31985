"""What a lane takes from whom, and what it refuses, without sockets."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.lane import codec, control, reports
from quakegrid.services.lane.drivers import joining
from quakegrid.transport import lane_sockets
from quakegrid.wire.v1 import lane_pb2
from tests.support import doors
from tests.support.doors import (
    BLOB_ID,
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


def test_task_comes_back_and_a_join_is_confirmed(played: PlayedDoor) -> None:
    """The way that all messages of honest peers take."""
    peer = played.join()
    played.ready("w1")
    played.submit(1)
    played.turn()
    played.finish("w1", 1)
    played.turn()

    assert bodies(played.heard(peer)) == ["joined", "outcome"]
    assert bodies(played.heard(worker("w1"))) == ["run_task"]


@pytest.mark.parametrize(
    "name",
    [
        b"driver-5-1234",
        b"w1",
        b"\xff\xfe",
        b"driver 5 " + b"0" * 64,
        b"driver -5 " + b"0" * 64,
        b"driver 99999999999999999999 " + b"0" * 64,
        b"worker 5 " + b"0" * 64 + b" w1",
        driver(OTHER).replace(b" 6 ", b" 5 "),
        driver(SESSION) + b" w1",
        worker("w1") + b"x",
        worker("w" * 129),
        worker(""),
    ],
)
def test_peer_whose_name_proves_nothing_is_refused_whatever_it_says(played: PlayedDoor, name: bytes) -> None:
    """Its tasks, blobs and outcomes are not even kept; it is told why, and counted."""
    played.say(name, b"evil", submit_task=lane_pb2.SubmitTask(session_id=SESSION, task_id=1))
    played.say(name, b"evil", put_blob=lane_pb2.PutBlob(session_id=SESSION, blob_id=BLOB_ID))
    played.say(name, join=lane_pb2.Join(protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=SESSION))

    assert ["does not prove" in reason for reason in refusals(played, name)] == [True] * 3
    assert played.payloads.memory_bytes == 0
    assert_serves(played)


def test_driver_that_submits_without_end_is_refused_in_words(
    played: PlayedDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task beyond the bound fails with the reason, nothing of it is kept, and the others run."""
    monkeypatch.setattr("quakegrid.services.lane.tasks.scheduler.MAX_TASKS", 50)
    peer = played.join()

    for number in range(1, 1001):
        played.submit(number)
    played.turn()

    failed = [message.task_failed for message in played.heard(peer) if message.HasField("task_failed")]
    assert [each.lease.task_id for each in failed] == list(range(51, 1001))
    assert {(each.lease.attempt, "tasks of a session" in each.reasons[0]) for each in failed} == {(0, True)}
    assert (played.payloads.kept_count, played.payloads.memory_bytes) == (50, 50 * len(b"payload"))
    played.ready("w1")
    played.turn()
    played.finish("w1", 1)
    played.submit(2000)
    played.turn()
    assert bodies(played.heard(peer)) == ["outcome"]


def test_probe_is_answered_whoever_asks(played: PlayedDoor) -> None:
    """So a peer of another version learns which versions there are."""
    played.take(b"old", lane_sockets.PROBE)

    assert [message.hello.protocol_version for message in played.heard(b"old")] == [
        lane_sockets.PROTOCOL_VERSION
    ]


def test_worker_cannot_answer_for_another(played: PlayedDoor) -> None:
    """Neither for a worker of its session nor for one of another session, though it guesses the lease."""
    victim = played.join()
    played.ready("w1")
    played.submit(1)
    played.turn()
    lease = lane_pb2.Lease(session_id=SESSION, task_id=1, attempt=1)
    forged = lane_pb2.Outcome(lease=lease, worker_id="w1")
    returned = lane_pb2.TaskReturned(lease=lease, worker_id="w1")

    for liar in (played.ready("w2"), played.ready("w1", OTHER)):
        played.say(liar, b"evil", outcome=forged)
        played.say(liar, task_returned=returned)
        assert len(refusals(played, liar)) == 2
    played.say(worker("w2"), b"evil", outcome=lane_pb2.Outcome(lease=lease, worker_id="w2"))  # not its lease
    played.turn()

    assert bodies(played.heard(victim)) == ["joined"]
    played.finish("w1", 1)
    played.turn()
    assert bodies(played.heard(victim)) == ["outcome"]


def test_driver_cannot_speak_for_another_session(played: PlayedDoor) -> None:
    """It cannot join it, cancel or submit its tasks, put its blobs, or tell what it has received."""
    victim = played.join()
    played.submit(1)
    liar = driver(OTHER)
    join = lane_pb2.Join(protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=SESSION)

    played.say(liar, join=join)
    played.say(liar, cancel_tasks=lane_pb2.CancelTasks(session_id=SESSION, task_ids=[1]))
    played.say(liar, b"evil", submit_task=lane_pb2.SubmitTask(session_id=SESSION, task_id=2))
    played.say(liar, b"evil", put_blob=lane_pb2.PutBlob(session_id=SESSION, blob_id=BLOB_ID))
    played.say(liar, received=lane_pb2.Received(session_id=SESSION, byte_count=1))
    played.ready("w1")
    played.turn()

    assert len(refusals(played, liar)) == 5
    assert [message.run_task.lease.task_id for message in played.heard(worker("w1"))] == [1]
    played.finish("w1", 1)
    played.turn()
    assert bodies(played.heard(victim)) == ["joined", "outcome"]


def test_worker_and_driver_cannot_change_places(played: PlayedDoor) -> None:
    """A worker submits no tasks, a driver delivers no outcomes."""
    played.say(worker("w1"), b"evil", submit_task=lane_pb2.SubmitTask(session_id=SESSION, task_id=1))
    lease = lane_pb2.Lease(session_id=SESSION, task_id=1, attempt=1)
    played.say(driver(), outcome=lane_pb2.Outcome(lease=lease, worker_id="w1"))

    assert len(refusals(played, worker("w1"))) == len(refusals(played, driver())) == 1


@pytest.mark.parametrize("blob_id", [b"", b"short", b"x" * 128, b"x" * 70_000])
def test_blob_with_an_id_that_is_none_is_refused(played: PlayedDoor, blob_id: bytes) -> None:
    """It would be the name of a folder, or too long for a file."""
    played.join()
    named = lane_pb2.SubmitTask(session_id=SESSION, task_id=1, blobs=[lane_pb2.BlobRef(blob_id=blob_id)])

    played.say(worker("w1"), get_blob=lane_pb2.GetBlob(session_id=SESSION, blob_id=blob_id))
    played.say(driver(), b"content", put_blob=lane_pb2.PutBlob(session_id=SESSION, blob_id=blob_id))
    played.say(driver(), b"payload", submit_task=named)

    assert len(refusals(played, worker("w1"))) == 1
    assert len(refusals(played, driver())) == 2
    assert played.payloads.memory_bytes == 0
    assert_serves(played)


def test_receipts_before_a_join_and_negative_ones_end_nothing(played: PlayedDoor) -> None:
    """The first is of an earlier lane's outcomes, the second is refused."""
    played.say(driver(), received=lane_pb2.Received(session_id=SESSION, byte_count=1 << 62))
    played.join()
    played.say(driver(), received=lane_pb2.Received(session_id=SESSION, byte_count=-1))
    played.say(driver(), received=lane_pb2.Received(session_id=SESSION, byte_count=1 << 62))

    assert len(refusals(played, driver())) == 1
    assert_serves(played)


def test_task_that_was_cancelled_may_come_again_with_another_weight(played: PlayedDoor) -> None:
    """It has its new place, and is given out once."""
    played.join()
    played.submit(1, weight=1.0)
    played.say(driver(), cancel_tasks=lane_pb2.CancelTasks(session_id=SESSION, task_ids=[1, 1, 77]))
    played.submit(1, weight=9.0)
    played.submit(2, weight=5.0)
    played.ready("w1")
    played.turn()
    played.finish("w1", 1)
    played.turn()

    orders = [message.run_task.lease.task_id for message in played.heard(worker("w1"))]
    assert orders == [1, 2]


@pytest.mark.parametrize(
    ("task_id", "attempt"), [(0, 1), (-1, 1), (-(1 << 63), 1), (1, 0), (1, (1 << 32) - 1), (1, 1_000_001)]
)
def test_lease_that_can_be_none_is_refused(played: PlayedDoor, task_id: int, attempt: int) -> None:
    """An attempt of 2^32 - 1 would be followed by one that no message can carry."""
    played.submit(1)
    lease = lane_pb2.Lease(session_id=SESSION, task_id=task_id, attempt=attempt)

    played.ready("w1", SESSION, lease)
    played.say(worker("w1"), outcome=lane_pb2.Outcome(lease=lease, worker_id="w1"))

    assert len(refusals(played, worker("w1"))) == 2
    assert_serves(played)


def test_numbers_of_tasks_and_workers_are_bounded(played: PlayedDoor) -> None:
    """A worker that holds more than a worker can; a header of a mebibyte; a name without end is cut."""
    lease = lane_pb2.Lease(session_id=SESSION, task_id=1, attempt=1)
    played.ready("w1", SESSION, *[lease] * (codec.MAX_HELD + 1))
    played.say(driver(), cancel_tasks=lane_pb2.CancelTasks(session_id=SESSION, task_ids=range(400_000)))
    many = lane_pb2.SubmitTask(
        session_id=SESSION, task_id=1, operation="x" * 500_000, max_attempts=(1 << 32) - 1
    )
    played.say(driver(), b"payload", submit_task=many)

    assert "10000 tasks at most" in refusals(played, worker("w1"))[0]
    assert "a header has" in refusals(played, driver())[0]
    assert_serves(played)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_numbers_that_are_none_do_not_reach_the_core(played: PlayedDoor, number: float) -> None:
    """Weights, expectations, durations."""
    played.join()
    played.ready("w1")
    for task_id in (1, 2, 3):
        played.submit(task_id, weight=number, expected_s=number)
    played.turn()
    lease = lane_pb2.Lease(session_id=SESSION, task_id=1, attempt=1)
    strange = lane_pb2.Outcome(
        lease=lease, worker_id="w1", duration_s=number, load_s=number, peak_memory_bytes=-(1 << 63)
    )
    played.say(worker("w1"), outcome=strange)
    played.turn()

    assert_serves(played)


def test_tasks_and_blobs_for_no_session_are_refused_before_they_are_kept(played: PlayedDoor) -> None:
    """A driver of a session that is over, or that a new broker does not know of yet: it may try again."""
    payload = bytes(1000)

    played.say(driver(99), payload, submit_task=lane_pb2.SubmitTask(session_id=99, task_id=1))
    played.say(driver(99), payload, put_blob=lane_pb2.PutBlob(session_id=99, blob_id=BLOB_ID))
    played.say(driver(99), cancel_tasks=lane_pb2.CancelTasks(session_id=99, task_ids=[1]))
    played.say(driver(99), received=lane_pb2.Received(session_id=99, byte_count=1))
    played.join(99)
    refused = [message.refused for message in played.heard(driver(99))]

    assert ["session 99 is not open" in each.reason for each in refused] == [True] * 5
    assert all(each.is_unknown_session for each in refused)
    assert played.payloads.memory_bytes == 0


def test_log_of_refusals_is_bounded(played: PlayedDoor, caplog: pytest.LogCaptureFixture) -> None:
    """A peer that errs a thousand times is worth some lines, none of which tells its token."""
    caplog.set_level(logging.WARNING)
    secret = driver().split(b" ")[2].decode()

    for _ in range(1000):
        played.take(driver(), b"\xff\xff\xff")

    assert len(refusals(played, driver())) == 1000
    assert 100 < len(caplog.records) < 110
    assert secret not in caplog.text
    assert "driver 5" in caplog.text


def test_peer_that_does_not_read_costs_neither_time_nor_log(
    played: PlayedDoor, caplog: pytest.LogCaptureFixture
) -> None:
    """What is for it is dropped when its socket is full; others are served."""
    played.router.gone.add(b"deaf")

    for _ in range(1000):
        played.take(b"deaf", b"\xff")

    assert played.router.sent == []
    assert caplog.text.count("peer_unreachable") < 110
    played.router.gone.clear()
    played.take(b"deaf", b"\xff")
    assert len(refusals(played, b"deaf")) == 1
    assert_serves(played)


def test_broker_that_does_not_read_costs_no_time_and_one_packet_a_session(played: PlayedDoor) -> None:
    """The newest counts are told when it reads again, in time for another turn."""
    played.join()
    played.ready("w1")
    for task_id in range(1, 2000):
        played.submit(task_id)
        played.say(driver(), cancel_tasks=lane_pb2.CancelTasks(session_id=SESSION, task_ids=[task_id]))
        played.turn(1.0)
    played.submit(5000)
    played.turn(1.0)
    played.turn(1.0)

    assert 0 <= (played.door.timeout_ms() or 0) <= control.RETRY_S * 1000 + 1
    last = []
    while told := played.told():
        last = told
        played.turn()
    assert last[-1].counts.running_count == 1


def told_counts(played: PlayedDoor) -> list[lane_pb2.LaneCounts]:
    """What the broker is told of the session in two turns."""
    played.turn(1.0)
    played.turn(1.0)
    return [message.counts for message in played.told() if message.counts.session_id == SESSION]


def test_packet_to_the_broker_fits_whatever_the_number_of_workers(played: PlayedDoor) -> None:
    """The counters are whole, and so are the names, in as many packets as they need."""
    played.join()
    names = [f"{number:0128d}" for number in range(4000)]
    for number, name in enumerate(names):
        played.ready(name)
        played.submit(number + 1)
    told = told_counts(played)

    assert {counts.running_count for counts in told[1:]} == {4000}
    assert sorted(name for counts in told for name in counts.busy_worker_ids) == names
    assert [counts.are_names_anew for counts in told] == [True] + [False] * (len(told) - 1)
    assert max(counts.ByteSize() for counts in told) < lane_sockets.CONTROL_BYTES // 3


def test_names_fit_a_socket_to_which_the_kernel_gives_little_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packet that is too large for it would never arrive, and the broker would not know who is idle."""
    monkeypatch.setattr(doors, "CONTROL_BYTES", 2000)
    with played_door(tmp_path) as played:
        played.open()
        played.join()
        names = [f"{number:0100d}" for number in range(30)]
        for number, name in enumerate(names):
            played.ready(name)
            played.submit(number + 1)
        told = []
        for _ in range(100):  # it takes few at a time
            played.turn(1.0)
            told += [message.counts for message in played.told()]

    assert sorted({name for counts in told for name in counts.busy_worker_ids}) == names
    assert max(counts.ByteSize() for counts in told) < 2304


def test_only_workers_that_became_busy_or_idle_are_named(played: PlayedDoor) -> None:
    """With thousands at long tasks all names, five times a second, would be most of what a broker reads."""
    played.join()
    for number in range(1, 4):
        played.ready(f"w{number}")
        played.submit(number)
    first = told_counts(played)
    played.finish("w2", 2)
    second = told_counts(played)
    played.submit(4)
    third = told_counts(played)
    played.turn(reports.ANEW_S)
    played.finish("w1", 1)
    last = told_counts(played)

    assert names_of(first) == [(True, ["w1", "w2", "w3"], [])]
    assert names_of(second) == [(False, [], ["w2"])]
    assert names_of(third) == [(False, ["w2"], [])]
    assert names_of(last) == [(True, ["w2", "w3"], [])]


def names_of(told: list[lane_pb2.LaneCounts]) -> list[tuple[bool, list[str], list[str]]]:
    """The names in some reports, without those that have none."""
    found = [
        (counts.are_names_anew, sorted(counts.busy_worker_ids), sorted(counts.idle_worker_ids))
        for counts in told
    ]
    return [each for each in found if each != (False, [], [])]


def test_task_beyond_its_time_is_told_to_the_broker(tmp_path: Path) -> None:
    """The worker that runs it, again while it is not gone; its death is the task's fault."""
    with played_door(tmp_path) as played:
        played.open(task_timeout_s=8.0)
        played.join()
        played.ready("w1")
        played.submit(1)
        told = []
        for _ in range(21):
            played.turn(1.0)
            told += [message.overdue.worker_id for message in played.told() if message.HasField("overdue")]
        assert told == ["w1", "w1"]

        lost = orders_pb2.WorkerEnd(
            session_id=SESSION, worker_id="w1", reason="its task ran longer", node="n1"
        )
        played.order(worker_lost=lost)
        played.ready("w2")
        played.turn()
        assert [message.run_task.lease.attempt for message in played.heard(worker("w2"))] == [2]
        played.order(
            worker_lost=orders_pb2.WorkerEnd(session_id=SESSION, worker_id="w2", reason="its task ran longer")
        )
        played.turn()
        failed = [
            message.task_failed for message in played.heard(driver()) if message.HasField("task_failed")
        ]
        assert ["its task ran longer" in reason for reason in failed[0].reasons] == [True, True]


def test_outcomes_before_the_driver_are_bounded_and_asked_for_again(
    played: PlayedDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose early outcomes do not fit is greeted when the driver is there, and tells them again."""
    monkeypatch.setattr("quakegrid.services.lane.mail.MAX_EARLY_BYTES", 2000)
    lease = lane_pb2.Lease(session_id=SESSION, task_id=1, attempt=1)
    peer = played.ready("w1", SESSION, lease)
    played.submit(1)
    outcome = lane_pb2.Outcome(lease=lease, worker_id="w1")

    played.say(peer, bytes(3000), outcome=outcome)
    played.join()
    played.turn(joining.SETTLE_S)
    played.turn()
    assert bodies(played.heard(peer)) == ["hello"]
    played.ready("w1", SESSION, lease)
    played.say(peer, bytes(3000), outcome=outcome)
    played.turn()

    assert bodies(played.heard(driver())) == ["joined", "outcome"]


def test_worker_waits_once_for_a_blob_however_often_it_asks(played: PlayedDoor) -> None:
    """On each new connection it asks again; the driver is asked once, and the content goes out once."""
    played.join()
    peer = played.ready("w1")
    get = lane_pb2.GetBlob(session_id=SESSION, blob_id=BLOB_ID)

    for _ in range(3):
        played.say(peer, get_blob=get)
    played.say(driver(), b"content", put_blob=lane_pb2.PutBlob(session_id=SESSION, blob_id=BLOB_ID))

    assert bodies(played.heard(driver())) == ["joined", "get_blob"]
    assert bodies(played.heard(peer)) == ["blob"]


def test_outcomes_of_a_turn_that_do_not_reach_their_driver_wait_for_it(played: PlayedDoor) -> None:
    """The driver's link broke in this turn: nothing is lost, and it has them when it joins again."""
    peer = played.join()
    for number in (1, 2):
        played.ready(f"w{number}")
        played.submit(number)
    played.turn()
    played.heard(peer)

    played.router.gone.add(peer)
    for number in (1, 2):
        played.finish(f"w{number}", number)
    played.turn()
    played.router.gone.clear()
    played.join()

    assert bodies(played.heard(peer)) == ["joined", "outcome", "outcome"]


def test_large_outcome_is_not_kept_until_the_end_of_the_turn(played: PlayedDoor) -> None:
    """Its driver decrypts it while the lane takes the next one."""
    peer = played.join()
    played.ready("w1")
    played.submit(1)
    played.turn()
    played.heard(peer)

    lease = lane_pb2.Lease(session_id=SESSION, task_id=1, attempt=1)
    outcome = lane_pb2.Outcome(lease=lease, worker_id="w1", node="node")
    played.say(worker("w1"), bytes(100_000), outcome=outcome)

    assert bodies(played.heard(peer)) == ["outcome"]
