"""The scheduling core against events that should not come, and what its `check` finds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.lane.tasks import events as lane
from quakegrid.services.lane.tasks.crew import Hold
from quakegrid.services.lane.tasks.events import Lease, Peer, SessionId, TaskId, WorkerId
from quakegrid.services.lane.tasks.scheduler import Scheduler
from quakegrid.services.lane.tasks.session import LaneSession
from tests.unit.lane.tasks.test_scheduler import DRIVER, S, finish, join, lease, opened, payload_of, submit

ELSEWHERE = SessionId(99)
W0 = WorkerId("w0")
OF_NO_SESSION = [
    lane.SessionClosed(ELSEWHERE),
    lane.TasksCancelled(ELSEWHERE, (TaskId(1),)),
    lane.DriverFilled(ELSEWHERE, is_full=True),
    lane.OutcomeArrived(Lease(ELSEWHERE, TaskId(1), 1), W0),
    lane.TaskReturned(Lease(ELSEWHERE, TaskId(1), 1), W0),
    WorkerEnd(ELSEWHERE, W0, "exit code 1", is_clean=False),
    lane.DrainAsked(ELSEWHERE, W0),
    lane.WorkerGreeted(ELSEWHERE, W0),
]


def without_driver(max_attempts: int = 3) -> Scheduler:
    """A lane that was started again: its driver has told its task, has not joined, and a worker runs it."""
    scheduler = Scheduler()
    scheduler.handle(lane.SessionOpened(S, max_attempts), 0.0)
    submit(scheduler, 1)
    join(scheduler, 0, (lease(1),))
    scheduler.check()
    return scheduler


@pytest.mark.parametrize("event", OF_NO_SESSION, ids=lambda event: type(event).__name__)
def test_event_of_a_session_that_is_not_here_changes_nothing(event: lane.Event) -> None:
    """It crossed the end of its session."""
    scheduler = opened()

    assert scheduler.handle(event, 0.0) == []
    assert scheduler.session_ids == [S]
    assert scheduler.place() == []


def test_session_is_opened_once() -> None:
    """A second time is a mistake of the broker."""
    scheduler = opened()

    with pytest.raises(IllegalMoveError, match="session 1 is open on this lane already"):
        scheduler.handle(lane.SessionOpened(S, 3), 0.0)


def test_unknown_event_is_a_mistake_of_ours() -> None:
    """It is not passed over."""
    event: Any = "no event"

    with pytest.raises(AssertionError, match="no event"):
        opened().handle(event, 0.0)


def test_worker_that_was_drained_before_it_joined_gets_no_task() -> None:
    """It is told to stop as it comes."""
    scheduler = opened(workers=0)
    submit(scheduler, 1)
    scheduler.handle(lane.DrainAsked(S, W0), 0.0)

    joined = join(scheduler, 0)

    assert joined == [lane.StopWorker(Peer(b"w0"), S)]
    assert scheduler.place() == []
    scheduler.check()


def test_outcome_without_a_driver_is_dropped_and_its_task_waits() -> None:
    """Nobody takes the outcome: the task runs again when the driver is there."""
    scheduler = without_driver()

    assert finish(scheduler, 1, 0) == []
    assert (scheduler.counts(S).queued_count, scheduler.counts(S).dropped_count) == (1, 1)
    scheduler.handle(lane.DriverJoined(S, DRIVER), 0.0)
    assert scheduler.place() == [lane.SendTask(Peer(b"w0"), lease(1, 2), payload_of(1))]
    scheduler.check()


def test_task_that_fails_without_a_driver_gives_its_payload_back() -> None:
    """There is nobody to be told."""
    scheduler = without_driver(max_attempts=1)

    actions = scheduler.handle(WorkerEnd(S, W0, "exit code 1", is_clean=False), 0.0)

    assert actions == [lane.DropPayloads((payload_of(1),))]
    assert scheduler.counts(S).failed_count == 1
    scheduler.check()


def test_worker_that_joins_again_without_a_cancelled_task_is_free() -> None:
    """The task is gone, and so is its place at the worker."""
    scheduler = opened()
    submit(scheduler, 1)
    scheduler.place()
    scheduler.handle(lane.TasksCancelled(S, (TaskId(1),)), 0.0)

    assert join(scheduler, 0) == []
    assert scheduler.counts(S).busy_worker_ids == ()
    assert scheduler.counts(S).requeued_count == 0
    scheduler.check()


# --- check


def session_with_a_leased_and_a_queued_task() -> LaneSession:
    """Task 1 runs on worker 0, task 2 waits."""
    scheduler = opened()
    submit(scheduler, 1, expected_s=math.inf)
    submit(scheduler, 2, expected_s=math.inf)
    scheduler.place()
    scheduler.check()
    session = scheduler._sessions[S]
    assert session.tasks[TaskId(1)].holder == W0
    assert session.tasks[TaskId(2)].holder is None
    return session


def test_check_finds_a_task_that_is_in_no_place() -> None:
    """Neither queued nor leased."""
    session = session_with_a_leased_and_a_queued_task()

    session.queue.discard(TaskId(2), 1.0)

    with pytest.raises(IllegalMoveError, match=r"queue \[\] is not the tasks without a holder \[2\]"):
        session.check()


def test_check_finds_a_lease_that_its_worker_does_not_hold() -> None:
    """The books of both sides differ."""
    session = session_with_a_leased_and_a_queued_task()

    session.crew.release(session.crew.workers[W0], TaskId(1))

    with pytest.raises(IllegalMoveError, match="leased to a worker that does not hold it"):
        session.check()


def test_check_finds_another_attempt() -> None:
    """A worker has an attempt that is not the current one."""
    session = session_with_a_leased_and_a_queued_task()

    session.crew.workers[W0].held[TaskId(1)] = Hold(7, 0.0)

    with pytest.raises(IllegalMoveError, match="holds another attempt"):
        session.check()


def test_check_finds_a_task_that_should_have_failed() -> None:
    """It has had as many attempts as it may."""
    session = session_with_a_leased_and_a_queued_task()

    session.tasks[TaskId(1)].reasons = ("died",) * 3

    with pytest.raises(IllegalMoveError, match="has had too many attempts"):
        session.check()


def test_check_finds_a_worker_that_was_asked_for_what_it_has_not() -> None:
    """A task is asked back from its holder only."""
    session = session_with_a_leased_and_a_queued_task()

    session.crew.workers[W0].recalled.add(TaskId(2))

    with pytest.raises(IllegalMoveError, match="was asked for what it does not hold"):
        session.check()


def test_check_finds_a_worker_with_a_wrong_load() -> None:
    """It would get too much to do, or nothing."""
    session = session_with_a_leased_and_a_queued_task()

    session.crew.workers[W0].load_s = 0.01

    with pytest.raises(IllegalMoveError, match="holds tasks of"):
        session.check()
