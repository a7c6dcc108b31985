"""What the broker keeps of a driver's connection, when another one follows it."""

from __future__ import annotations

from quakegrid.internal.v1 import sessions_pb2
from quakegrid.jobs.states import JobState
from quakegrid.services.broker.drivers.session import MAX_WAITING, DriverSession, Rate
from quakegrid.wire.v1 import lane_pb2


def session(**request: object) -> DriverSession:
    """Session 5 of process 100 on node1."""
    fields = {"host": "node1", "pid": 100} | request
    return DriverSession(5, sessions_pb2.OpenSessionRequest(**fields), Rate(0.0))  # type: ignore[arg-type]


def test_driver_that_names_its_session_goes_on_with_it() -> None:
    """Only the process that opened it."""
    mine = session(job_ids=[7])

    assert mine.goes_on_with(sessions_pb2.OpenSessionRequest(host="node1", pid=100, resumed_session_id=5))
    assert not mine.goes_on_with(sessions_pb2.OpenSessionRequest(host="node1", pid=100, resumed_session_id=6))
    assert not mine.goes_on_with(sessions_pb2.OpenSessionRequest(host="node1", pid=101, resumed_session_id=5))
    assert not mine.goes_on_with(sessions_pb2.OpenSessionRequest(host="node2", pid=100, resumed_session_id=5))


def test_driver_that_was_told_nothing_yet_goes_on_by_its_jobs() -> None:
    """One without a job asks for another session."""
    again = sessions_pb2.OpenSessionRequest(host="node1", pid=100, job_ids=[7])
    without = sessions_pb2.OpenSessionRequest(host="node1", pid=100)

    assert session(job_ids=[7]).goes_on_with(again)
    assert not session(job_ids=[8]).goes_on_with(again)
    assert not session().goes_on_with(without)


def test_stranger_that_knows_host_process_and_jobs_does_not_go_on() -> None:
    """The status of the fleet shows them; the session's token would be told to the stranger."""
    mine = session(job_ids=[7], driver_nonce=b"secret")
    driver, stranger, guessing = (
        sessions_pb2.OpenSessionRequest(host="node1", pid=100, job_ids=[7], driver_nonce=nonce)
        for nonce in (b"secret", b"", b"guess")
    )

    assert mine.goes_on_with(driver)
    assert not mine.goes_on_with(stranger)
    assert not mine.goes_on_with(guessing)


def test_new_stream_gets_what_waits_and_the_old_one_ends() -> None:
    """No event is lost in between."""
    mine = session()
    failed = sessions_pb2.OpenSessionResponse(failed=sessions_pb2.SessionFailed(reason="no port"))
    old = mine.attach()
    mine.events.put_nowait(failed)

    new = mine.attach()

    assert new is mine.events
    assert new.get_nowait() == failed
    assert old.get_nowait() is None
    assert old.empty()


def test_driver_that_takes_nothing_misses_news_but_not_its_end() -> None:
    """What waits for it is bounded."""
    mine = session()
    events = mine.attach()
    flushed = sessions_pb2.OpenSessionResponse(output_flushed={})
    failed = sessions_pb2.OpenSessionResponse(failed=sessions_pb2.SessionFailed(reason="no port"))

    for _ in range(MAX_WAITING + 5):
        mine.tell(flushed)
    mine.tell(failed)

    assert events.qsize() == MAX_WAITING + 1
    assert [events.get_nowait() for _ in range(MAX_WAITING + 1)][-1] == failed


def test_first_reason_for_the_end_of_a_session_stays() -> None:
    """Whatever happens while it ends."""
    mine = session()

    assert mine.end_as(JobState.ABORTED, "aborted by ann")
    assert not mine.end_as(JobState.FAILED, "its lane died")

    assert (mine.end_state, mine.end_reason) == (JobState.ABORTED, "aborted by ann")


def test_busy_workers_are_those_that_the_lane_named_and_did_not_take_back() -> None:
    """It names those that change, and from time to time, or when it is another lane, all of them anew."""
    mine = session()
    steps = [
        (lane_pb2.LaneCounts(are_names_anew=True, busy_worker_ids=["w1", "w2"]), {"w1", "w2"}),
        (lane_pb2.LaneCounts(busy_worker_ids=["w3"], idle_worker_ids=["w1"]), {"w2", "w3"}),
        (lane_pb2.LaneCounts(running_count=2), {"w2", "w3"}),
        (lane_pb2.LaneCounts(are_names_anew=True, busy_worker_ids=["w4"]), {"w4"}),
    ]

    for told, busy in steps:
        mine.note_counts(told)
        assert mine.busy_worker_ids == busy
