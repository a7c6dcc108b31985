"""The scheduling core of a lane: leases, attempts, credits, taking back, draining, refusals."""

from __future__ import annotations

import pytest

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.lane.tasks import events as lane
from quakegrid.services.lane.tasks.events import Lease, Peer, SessionId, TaskId, WorkerId
from quakegrid.services.lane.tasks.scheduler import Scheduler
from quakegrid.services.lane.tasks.session import MAX_EXCUSED

S = SessionId(1)
DRIVER = Peer(b"driver")


def opened(*, max_attempts: int = 3, workers: int = 1) -> Scheduler:
    """A scheduler with one joined session and some workers."""
    scheduler = Scheduler()
    scheduler.handle(lane.SessionOpened(S, max_attempts), 0.0)
    scheduler.handle(lane.DriverJoined(S, DRIVER), 0.0)
    for number in range(workers):
        join(scheduler, number)
    return scheduler


def join(scheduler: Scheduler, number: int, held: tuple[Lease, ...] = ()) -> list[lane.Action]:
    """Let worker `number` join, perhaps again with the leases that it still has."""
    worker_id, peer = WorkerId(f"w{number}"), Peer(b"w%d" % number)
    return scheduler.handle(lane.WorkerJoined(S, worker_id, "node", peer, held), 0.0)


def submit(
    scheduler: Scheduler,
    task_id: int,
    weight: float = 1.0,
    *,
    expected_s: float = 0.0,
    max_attempts: int = 0,
) -> list[lane.Action]:
    """Submit a task."""
    task = lane.TaskSubmitted(
        S, TaskId(task_id), DRIVER, "op", payload_of(task_id), weight, expected_s, max_attempts
    )
    return scheduler.handle(task, 0.0)


def payload_of(task_id: int) -> str:
    """What stands for the task's payload."""
    return f"payload {task_id}"


def finish(
    scheduler: Scheduler, task_id: int, worker: int, attempt: int = 1, duration_s: float = 0.0
) -> list[lane.Action]:
    """Let worker `worker` send the outcome of a task."""
    outcome = lane.OutcomeArrived(lease(task_id, attempt), WorkerId(f"w{worker}"), duration_s)
    return scheduler.handle(outcome, 0.0)


def sent(task_id: int, worker: int = 0, attempt: int = 1) -> lane.Action:
    """The action that gives a task to a worker."""
    return lane.SendTask(Peer(b"w%d" % worker), lease(task_id, attempt), payload_of(task_id))


def delivered(task_id: int, attempt: int = 1) -> lane.Action:
    """The action that passes on an outcome."""
    return lane.DeliverOutcome(DRIVER, lease(task_id, attempt), payload_of(task_id))


def lease(task_id: int, attempt: int = 1) -> Lease:
    """A lease of the session."""
    return Lease(S, TaskId(task_id), attempt)


def test_heavier_tasks_start_first() -> None:
    """The longest task does not become the tail."""
    scheduler = opened()
    submit(scheduler, 1, 1.0)
    submit(scheduler, 2, 5.0)

    actions = scheduler.place()

    assert actions == [sent(2, 0)]


def test_worker_gets_no_more_than_its_credits() -> None:
    """A worker with one credit holds one task."""
    scheduler = opened(workers=2)
    for task_id in range(5):
        submit(scheduler, task_id)

    actions = scheduler.place()

    assert [action.peer for action in actions if isinstance(action, lane.SendTask)] == [b"w0", b"w1"]


def test_idle_worker_that_was_busy_last_gets_the_next_task() -> None:
    """One task after the other stays where caches are warm; who was not busy yet comes last."""
    scheduler = opened(workers=3)
    for task_id in (1, 2):
        submit(scheduler, task_id)
    assert scheduler.place() == [sent(1, 0), sent(2, 1)]
    finish(scheduler, 2, worker=1)
    finish(scheduler, 1, worker=0)

    for task_id in (3, 4, 5):
        submit(scheduler, task_id)

    assert scheduler.place() == [sent(3, 0), sent(4, 1), sent(5, 2)]


def test_lost_worker_gives_its_task_to_another_under_a_new_lease() -> None:
    """A killed worker costs an attempt, not the task."""
    scheduler = opened(workers=2)
    submit(scheduler, 1)
    scheduler.place()

    scheduler.handle(WorkerEnd(S, WorkerId("w0"), "killed", is_clean=False), 0.0)

    assert scheduler.place() == [sent(1, 1, 2)]


def test_outcome_of_an_old_lease_is_dropped_and_counted() -> None:
    """What a worker that we gave up sends late is not delivered."""
    scheduler = opened(workers=2)
    submit(scheduler, 1)
    scheduler.place()
    scheduler.handle(WorkerEnd(S, WorkerId("w0"), "node lost", is_clean=False), 0.0)
    scheduler.place()

    late = scheduler.handle(lane.OutcomeArrived(lease(1), WorkerId("w0")), 0.0)
    real = scheduler.handle(lane.OutcomeArrived(lease(1, attempt=2), WorkerId("w1")), 0.0)
    again = scheduler.handle(lane.OutcomeArrived(lease(1, attempt=2), WorkerId("w1")), 0.0)

    assert (late, real, again) == ([], [delivered(1, 2)], [])
    assert scheduler.counts(S).dropped_count == 2


def test_task_that_kills_its_workers_fails_with_every_reason() -> None:
    """After `max_attempts` deaths the driver is told, with node and reason of each."""
    scheduler = opened(max_attempts=2, workers=2)
    submit(scheduler, 1)
    scheduler.place()
    scheduler.handle(WorkerEnd(S, WorkerId("w0"), "SIGSEGV", is_clean=False), 0.0)
    scheduler.place()

    lost = WorkerEnd(S, WorkerId("w1"), "SIGKILL", is_clean=False)
    told, *actions = scheduler.handle(lost, 0.0)

    reasons = ("attempt 1 on node: SIGSEGV", "attempt 2 on node: SIGKILL")
    assert told == lane.TellDeath(DRIVER, lost, (lease(1, attempt=2),), "op")
    assert actions == [lane.FailTask(DRIVER, lease(1, attempt=2), payload_of(1), "op", reasons)]


def test_death_is_told_once_and_only_if_it_was_one() -> None:
    """Also that of a worker that never joined; who ended by request is no news."""
    scheduler = opened(workers=2)
    lost = [
        WorkerEnd(S, WorkerId("w0"), "SIGKILL", is_clean=False),
        WorkerEnd(S, WorkerId("w0"), "its agent is gone", is_clean=False),
        WorkerEnd(S, WorkerId("w1"), "exit code 0", is_clean=True),
        WorkerEnd(S, WorkerId("w9"), "exit code 1", is_clean=False, node="n9"),
    ]

    told = [action for event in lost for action in scheduler.handle(event, 0.0)]

    assert told == [lane.TellDeath(DRIVER, each, (), "") for each in (lost[0], lost[3])]


@pytest.mark.parametrize("is_blameless", [True, False])
def test_worker_that_ends_in_order_but_for_its_task_is_told(is_blameless: bool) -> None:
    """People killed it, or the task ended the process: the task takes longer, and its driver knows why."""
    scheduler = opened(workers=2)
    submit(scheduler, 1)
    scheduler.place()
    lost = WorkerEnd(S, WorkerId("w0"), "exit code 0", is_clean=True, is_blameless=is_blameless)

    told = scheduler.handle(lost, 0.0)

    assert told == [lane.TellDeath(DRIVER, lost, (lease(1),), "op")]


def test_drained_worker_that_ends_before_the_lane_knows_is_no_news() -> None:
    """What it gave back or sent may still be on its way."""
    scheduler = opened(workers=2)
    submit(scheduler, 1)
    scheduler.place()
    scheduler.handle(lane.DrainAsked(S, WorkerId("w0")), 0.0)

    assert scheduler.handle(WorkerEnd(S, WorkerId("w0"), "exit code 0", is_clean=True), 0.0) == []


def test_worker_that_people_ended_costs_its_task_no_attempt() -> None:
    """However often; a new lease it gets all the same."""
    scheduler = opened(max_attempts=1, workers=3)
    submit(scheduler, 1)
    scheduler.place()

    for attempt, name in enumerate(("w0", "w1"), 1):
        lost = WorkerEnd(S, WorkerId(name), "killed", is_clean=True, is_blameless=True)
        assert scheduler.handle(lost, 0.0) == [lane.TellDeath(DRIVER, lost, (lease(1, attempt),), "op")]
        scheduler.place()

    done = scheduler.handle(lane.OutcomeArrived(lease(1, attempt=3), WorkerId("w2")), 0.0)
    assert done == [delivered(1, 3)]


def test_task_that_takes_node_after_node_with_it_is_given_up() -> None:
    """That nodes vanish is not its fault, up to a bound: then each counts as an attempt."""
    worker_count = MAX_EXCUSED + 3
    scheduler = opened(max_attempts=3, workers=worker_count)
    submit(scheduler, 1)
    told = []

    for number in range(worker_count):
        scheduler.place()
        lost = WorkerEnd(S, WorkerId(f"w{number}"), "gone", is_clean=False, is_blameless=True)
        told.append([type(action) for action in scheduler.handle(lost, 0.0)])

    assert all(lane.FailTask not in each for each in told[:-1])
    assert lane.FailTask in told[-1]


def test_task_submitted_twice_runs_once() -> None:
    """A driver that reconnects may tell its tasks again."""
    scheduler = opened(workers=2)
    submit(scheduler, 1)
    scheduler.place()

    again = submit(scheduler, 1)

    assert again == [lane.DropPayloads((payload_of(1),))]
    assert scheduler.place() == []


def test_draining_worker_keeps_its_task_and_gets_no_other() -> None:
    """A drained worker ends after what it holds."""
    scheduler = opened()
    submit(scheduler, 1)
    submit(scheduler, 2)
    scheduler.place()

    stop = scheduler.handle(lane.DrainAsked(S, WorkerId("w0")), 0.0)
    actions = scheduler.handle(lane.OutcomeArrived(lease(1), WorkerId("w0")), 0.0)

    assert stop == [lane.StopWorker(Peer(b"w0"), S)]
    assert actions == [delivered(1), lane.StopWorker(Peer(b"w0"), S)]
    assert scheduler.place() == []


def test_worker_that_was_reported_dead_is_refused() -> None:
    """The agent's word about an exit can overtake the worker's own first message."""
    scheduler = opened(workers=0)
    scheduler.handle(WorkerEnd(S, WorkerId("w0"), "exit code 1", is_clean=False), 0.0)

    actions = join(scheduler, 0)

    assert isinstance(actions[0], lane.Refuse)


def test_closed_session_stops_its_workers_and_forgets_payloads() -> None:
    """Nothing of a session stays on the lane."""
    scheduler = opened(workers=1)
    submit(scheduler, 1)

    actions = scheduler.handle(lane.SessionClosed(S), 0.0)

    assert actions == [
        lane.StopWorker(Peer(b"w0")),
        lane.DropPayloads((payload_of(1),)),
        lane.ForgetSession(S),
    ]
    assert scheduler.session_ids == []


def test_peers_of_a_session_that_is_not_open_are_refused() -> None:
    """A worker or driver of another time gets a word, not silence."""
    scheduler = Scheduler()

    refused = [
        *submit(scheduler, 1),
        *join(scheduler, 0),
        *scheduler.handle(lane.DriverJoined(S, DRIVER), 0.0),
    ]

    assert refused[0] == lane.DropPayloads((payload_of(1),))
    assert len(refused) == 4
    assert all(isinstance(action, lane.Refuse) for action in refused[1:])


def test_short_tasks_wait_at_the_worker_and_long_ones_do_not() -> None:
    """Only a short task may be handed out ahead, and never behind a long one."""
    scheduler = opened()
    for task_id in (1, 2, 3):
        submit(scheduler, task_id, expected_s=0.025)
    other = opened()
    submit(other, 1, weight=2.0)
    submit(other, 2, expected_s=0.025)

    short, long = scheduler.place(), other.place()

    assert short == [sent(1), sent(2)]
    assert long == [sent(1)]


def test_tasks_found_to_be_tiny_are_handed_out_by_the_dozen() -> None:
    """What a kind of task takes is learnt; until then it is taken for long."""
    scheduler = opened()
    for task_id in range(30):
        submit(scheduler, task_id)
    first = scheduler.place()

    finish(scheduler, 0, 0, duration_s=0.0042)

    assert len(first) == 1
    assert len(scheduler.place()) == 14
    finish(scheduler, 1, 0, duration_s=1.0)
    assert scheduler.place() == []


def test_waiting_task_is_asked_back_when_another_worker_idles() -> None:
    """A short task behind one that turned out long runs elsewhere, once."""
    scheduler = opened()
    submit(scheduler, 1, expected_s=0.02)
    submit(scheduler, 2, expected_s=0.02)
    scheduler.place()
    join(scheduler, 1)

    asked = scheduler.place()
    again = scheduler.place()
    scheduler.handle(lane.TaskReturned(lease(2), WorkerId("w0")), 0.0)
    moved = scheduler.place()

    assert asked == [lane.TakeBack(Peer(b"w0"), lease(2))]
    assert again == []
    assert moved == [sent(2, worker=1, attempt=2)]
    assert finish(scheduler, 2, 1, attempt=2) == [delivered(2, 2)]


def test_task_that_was_begun_before_it_was_asked_back_counts() -> None:
    """The question crosses the outcome; the task runs once."""
    scheduler = opened()
    submit(scheduler, 1, expected_s=0.02)
    submit(scheduler, 2, expected_s=0.02)
    scheduler.place()
    join(scheduler, 1)
    scheduler.place()

    first, second = finish(scheduler, 1, 0), finish(scheduler, 2, 0)

    assert [first, second] == [[delivered(1)], [delivered(2)]]
    assert scheduler.place() == []


def test_cancelled_tasks_are_not_run_and_not_delivered() -> None:
    """A queued one never starts; the outcome of one that runs is dropped."""
    scheduler = opened()
    submit(scheduler, 1)
    submit(scheduler, 2)
    scheduler.place()

    actions = scheduler.handle(lane.TasksCancelled(S, (TaskId(1), TaskId(2), TaskId(3))), 0.0)
    late = finish(scheduler, 1, 0)

    assert actions == [
        lane.DropPayloads((payload_of(1),)),
        lane.TakeBack(Peer(b"w0"), lease(1)),
        lane.DropPayloads((payload_of(2),)),
    ]
    assert late == []
    assert scheduler.place() == []


def test_driver_that_is_full_gets_no_more_tasks_done() -> None:
    """Who does not take outcomes makes no new ones, until it has caught up."""
    scheduler = opened()
    submit(scheduler, 1)
    scheduler.handle(lane.DriverFilled(S, is_full=True), 0.0)

    held_back = scheduler.place()
    scheduler.handle(lane.DriverFilled(S, is_full=False), 0.0)

    assert (held_back, scheduler.place()) == ([], [sent(1)])


def test_nothing_is_placed_before_the_driver_has_joined() -> None:
    """After a restart of the lane the driver tells all its tasks, then joins."""
    scheduler = Scheduler()
    scheduler.handle(lane.SessionOpened(S, 3), 0.0)
    submit(scheduler, 1)
    submit(scheduler, 2)
    join(scheduler, 0, held=(lease(1, 4),))

    before = scheduler.place()
    scheduler.handle(lane.DriverJoined(S, DRIVER), 0.0)
    after = scheduler.place()
    join(scheduler, 1)

    assert (before, after, scheduler.place()) == ([], [], [sent(2, worker=1)])
    assert finish(scheduler, 1, 0, attempt=4) == [delivered(1, 4)]


def test_task_lost_on_the_way_to_a_worker_is_sent_again() -> None:
    """A worker that comes back names what it has; the rest never reached it, or its outcome not us."""
    scheduler = opened()
    submit(scheduler, 1, expected_s=0.02)
    submit(scheduler, 2, expected_s=0.02)
    scheduler.place()

    stale = join(scheduler, 0, held=(lease(2), lease(7)))

    assert stale == [lane.TakeBack(Peer(b"w0"), lease(7))]
    assert scheduler.place() == [sent(1, attempt=2)]


def test_worker_that_is_greeted_gets_nothing_before_it_has_said_what_it_has() -> None:
    """The task would cross its word, count as lost on the way there, and be computed twice."""
    scheduler = opened(workers=2)
    for number in (0, 1):
        scheduler.handle(lane.WorkerGreeted(S, WorkerId(f"w{number}")), 0.0)
    scheduler.handle(lane.WorkerGreeted(S, WorkerId("w9")), 0.0)
    scheduler.handle(lane.DrainAsked(S, WorkerId("w1")), 0.0)
    submit(scheduler, 1)

    before = scheduler.place()
    join(scheduler, 1)
    of_drained = scheduler.place()
    join(scheduler, 0)

    assert before == of_drained == []
    assert scheduler.place() == [sent(1)]


def test_death_with_two_tasks_blames_none_and_tries_each_alone() -> None:
    """Nobody knows which one ended the worker, so each gets a worker of its own next."""
    scheduler = opened(max_attempts=1, workers=0)
    join(scheduler, 0)
    submit(scheduler, 1, expected_s=0.02)
    submit(scheduler, 2, expected_s=0.02)
    scheduler.place()
    join(scheduler, 1)

    lost = WorkerEnd(S, WorkerId("w0"), "killed", is_clean=False)
    actions = scheduler.handle(lost, 0.0)
    placed = scheduler.place()

    assert actions == [lane.TellDeath(DRIVER, lost, (lease(1), lease(2)), "op")]
    assert placed == [sent(1, 1, 2)]


def test_task_may_ask_for_fewer_attempts() -> None:
    """A chunk fails at the first death; its calls are then tried one by one."""
    scheduler = opened(max_attempts=3)
    submit(scheduler, 1, max_attempts=1)
    scheduler.place()

    _told, *actions = scheduler.handle(WorkerEnd(S, WorkerId("w0"), "killed", is_clean=False), 0.0)

    assert actions == [lane.FailTask(DRIVER, lease(1), payload_of(1), "op", ("attempt 1 on node: killed",))]


def test_task_that_runs_too_long_is_to_blame_and_what_waited_behind_it_is_not() -> None:
    """Its worker is to be killed; the first of what it held has an attempt less, no other has."""
    scheduler = Scheduler()
    scheduler.handle(lane.SessionOpened(S, 1, 10.0), 0.0)
    scheduler.handle(lane.DriverJoined(S, DRIVER), 0.0)
    scheduler.handle(lane.WorkerJoined(S, WorkerId("w1"), "n1", Peer(b"w1")), 0.0)
    for number in (1, 2):
        scheduler.handle(lane.TaskSubmitted(S, TaskId(number), DRIVER, "op", expected_s=0.01), 0.0)
    scheduler.place()

    assert [scheduler.handle(lane.TimePassed(), now_s) for now_s in (0.0, 9.0, 10.0, 11.0)] == [
        [],
        [],
        [lane.KillWorker(S, WorkerId("w1"))],
        [],
    ]
    lost = scheduler.handle(WorkerEnd(S, WorkerId("w1"), "too long", is_clean=False, node="n1"), 0.0)
    failed = [action for action in lost if isinstance(action, lane.FailTask)]
    scheduler.handle(lane.WorkerJoined(S, WorkerId("w2"), "n1", Peer(b"w2")), 0.0)
    again = scheduler.place()

    assert [(action.lease.task_id, action.reasons) for action in failed] == [
        (1, ("attempt 1 on n1: too long",))
    ]
    assert [action.lease.task_id for action in again if isinstance(action, lane.SendTask)] == [2]
    assert scheduler.next_deadline_s() == 12.0
    scheduler.check()


def test_session_takes_no_more_tasks_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver hears of each that is not taken: attempt 0, with the reason."""
    monkeypatch.setattr("quakegrid.services.lane.tasks.scheduler.MAX_TASKS", 2)
    scheduler = Scheduler()
    scheduler.handle(lane.SessionOpened(S, 3), 0.0)

    found = [
        scheduler.handle(lane.TaskSubmitted(S, TaskId(number), DRIVER, "op"), 0.0) for number in (1, 2, 3)
    ]

    assert found[:2] == [[], []]
    assert isinstance(found[2][0], lane.FailTask)
    assert found[2][0].lease == Lease(S, TaskId(3), 0)
    assert "at once at most" in found[2][0].reasons[0]
    scheduler.check()
