"""The scheduling core of a lane: leases, attempts, draining, refusals."""

from __future__ import annotations

from services.broker import lane_events as lane
from services.broker.lane_events import Lease, Peer, SessionId, TaskId, WorkerId
from services.broker.scheduler import Scheduler

S = SessionId(1)
DRIVER = Peer(b"driver")


def opened(*, max_attempts: int = 3, workers: int = 1) -> Scheduler:
    """A scheduler with one joined session and some workers."""
    scheduler = Scheduler()
    scheduler.handle(lane.SessionOpened(S, max_attempts))
    scheduler.handle(lane.DriverJoined(S, DRIVER))
    for number in range(workers):
        join(scheduler, number)
    return scheduler


def join(scheduler: Scheduler, number: int, credit_count: int = 1) -> list[lane.Action]:
    """Let worker `number` join."""
    worker_id, peer = WorkerId(f"w{number}"), Peer(b"w%d" % number)
    return scheduler.handle(lane.WorkerJoined(S, worker_id, "node", credit_count, peer))


def submit(
    scheduler: Scheduler,
    task_id: int,
    weight: float = 1.0,
    *,
    is_short: bool = False,
    max_attempts: int = 0,
) -> list[lane.Action]:
    """Submit a task."""
    task = lane.TaskSubmitted(S, TaskId(task_id), weight, "op", DRIVER, is_short, max_attempts)
    return scheduler.handle(task)


def lease(task_id: int, attempt: int = 1) -> Lease:
    """A lease of the session."""
    return Lease(S, TaskId(task_id), attempt)


def test_heavier_tasks_start_first() -> None:
    """The longest task does not become the tail."""
    scheduler = opened()
    submit(scheduler, 1, 1.0)
    submit(scheduler, 2, 5.0)

    actions = scheduler.place()

    assert actions == [lane.SendTask(Peer(b"w0"), lease(2))]


def test_worker_gets_no_more_than_its_credits() -> None:
    """A worker with one credit holds one task."""
    scheduler = opened(workers=2)
    for task_id in range(5):
        submit(scheduler, task_id)

    actions = scheduler.place()

    assert [action.peer for action in actions if isinstance(action, lane.SendTask)] == [b"w0", b"w1"]


def test_lost_worker_gives_its_task_to_another_under_a_new_lease() -> None:
    """A killed worker costs an attempt, not the task."""
    scheduler = opened(workers=2)
    submit(scheduler, 1)
    scheduler.place()

    scheduler.handle(lane.WorkerLost(S, WorkerId("w0"), "killed", is_clean=False))

    assert scheduler.place() == [lane.SendTask(Peer(b"w1"), lease(1, attempt=2))]


def test_outcome_of_an_old_lease_is_dropped_and_counted() -> None:
    """What a worker that we gave up sends late is not delivered."""
    scheduler = opened(workers=2)
    submit(scheduler, 1)
    scheduler.place()
    scheduler.handle(lane.WorkerLost(S, WorkerId("w0"), "node lost", is_clean=False))
    scheduler.place()

    late = scheduler.handle(lane.OutcomeArrived(lease(1), WorkerId("w0")))
    real = scheduler.handle(lane.OutcomeArrived(lease(1, attempt=2), WorkerId("w1")))
    again = scheduler.handle(lane.OutcomeArrived(lease(1, attempt=2), WorkerId("w1")))

    assert (late, real, again) == ([], [lane.DeliverOutcome(DRIVER, lease(1, attempt=2))], [])
    assert scheduler.counts(S).dropped_count == 2


def test_task_that_kills_its_workers_fails_with_every_reason() -> None:
    """After `max_attempts` deaths the driver is told, with node and reason of each."""
    scheduler = opened(max_attempts=2, workers=2)
    submit(scheduler, 1)
    scheduler.place()
    scheduler.handle(lane.WorkerLost(S, WorkerId("w0"), "SIGSEGV", is_clean=False))
    scheduler.place()

    actions = scheduler.handle(lane.WorkerLost(S, WorkerId("w1"), "SIGKILL", is_clean=False))

    reasons = ("attempt 1 on node: SIGSEGV", "attempt 2 on node: SIGKILL")
    assert actions == [lane.FailTask(DRIVER, lease(1, attempt=2), "op", reasons)]


def test_task_submitted_twice_runs_once() -> None:
    """A driver that reconnects may tell its tasks again."""
    scheduler = opened(workers=2)
    submit(scheduler, 1)
    scheduler.place()

    submit(scheduler, 1)

    assert scheduler.place() == []


def test_draining_worker_keeps_its_task_and_gets_no_other() -> None:
    """A drained worker ends after what it holds."""
    scheduler = opened()
    submit(scheduler, 1)
    submit(scheduler, 2)
    scheduler.place()

    stop = scheduler.handle(lane.DrainAsked(S, WorkerId("w0")))
    delivered = scheduler.handle(lane.OutcomeArrived(lease(1), WorkerId("w0")))

    assert stop == [lane.StopWorker(Peer(b"w0"))]
    assert delivered == [lane.DeliverOutcome(DRIVER, lease(1))]
    assert scheduler.place() == []


def test_worker_that_was_reported_dead_is_refused() -> None:
    """The agent's word about an exit can overtake the worker's own first message."""
    scheduler = opened(workers=0)
    scheduler.handle(lane.WorkerLost(S, WorkerId("w0"), "exit code 1", is_clean=False))

    actions = join(scheduler, 0)

    assert isinstance(actions[0], lane.Refuse)


def test_closed_session_stops_its_workers_and_forgets_payloads() -> None:
    """Nothing of a session stays on the lane."""
    scheduler = opened(workers=1)
    submit(scheduler, 1)

    actions = scheduler.handle(lane.SessionClosed(S))

    assert actions == [lane.StopWorker(Peer(b"w0")), lane.ForgetSession(S)]
    assert scheduler.session_ids == []


def test_peers_of_a_session_that_is_not_open_are_refused() -> None:
    """A worker or driver of another time gets a word, not silence."""
    scheduler = Scheduler()

    refused = [*submit(scheduler, 1), *join(scheduler, 0), *scheduler.handle(lane.DriverJoined(S, DRIVER))]

    assert len(refused) == 3
    assert all(isinstance(action, lane.Refuse) for action in refused)


def test_short_tasks_wait_at_the_worker_and_long_ones_do_not() -> None:
    """Only a short task may be handed out ahead, and never behind a long one."""
    scheduler = opened(workers=0)
    join(scheduler, 0, credit_count=2)
    for task_id in (1, 2, 3):
        submit(scheduler, task_id, is_short=True)
    short = scheduler.place()
    other = opened(workers=0)
    join(other, 0, credit_count=2)
    submit(other, 1, weight=2.0)
    submit(other, 2, is_short=True)

    long = other.place()

    assert short == [lane.SendTask(Peer(b"w0"), lease(1)), lane.SendTask(Peer(b"w0"), lease(2))]
    assert long == [lane.SendTask(Peer(b"w0"), lease(1))]


def test_death_with_two_tasks_blames_none_and_tries_each_alone() -> None:
    """Nobody knows which one ended the worker, so each gets a worker of its own next."""
    scheduler = opened(max_attempts=1, workers=0)
    join(scheduler, 0, credit_count=2)
    submit(scheduler, 1, is_short=True)
    submit(scheduler, 2, is_short=True)
    scheduler.place()
    join(scheduler, 1, credit_count=2)

    actions = scheduler.handle(lane.WorkerLost(S, WorkerId("w0"), "killed", is_clean=False))
    placed = scheduler.place()

    assert actions == []
    assert placed == [lane.SendTask(Peer(b"w1"), lease(1, 2))]


def test_task_may_ask_for_fewer_attempts() -> None:
    """A chunk fails at the first death; its calls are then tried one by one."""
    scheduler = opened(max_attempts=3)
    submit(scheduler, 1, max_attempts=1)
    scheduler.place()

    actions = scheduler.handle(lane.WorkerLost(S, WorkerId("w0"), "killed", is_clean=False))

    assert actions == [lane.FailTask(DRIVER, lease(1), "op", ("attempt 1 on node: killed",))]
