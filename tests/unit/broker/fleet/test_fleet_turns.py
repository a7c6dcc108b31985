"""The fleet core: sessions with long calls, and sessions that never do anything."""

from __future__ import annotations

from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import TURN_S, Fleet
from quakegrid.services.broker.fleet.state import DRAIN_PATIENCE_S, UNUSED_S
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended, step
from tests.unit.broker.fleet.test_fleet import drains, warm


def play(core: Fleet, long_calls: set[int], seconds: int, task_counts: dict[int, int]) -> list[set[int]]:
    """Who has a core in each second.

    Args:
        core: with these sessions.
        long_calls: sessions whose workers never end their task.
        seconds: how long.
        task_counts: tasks of each session, which stay as many.
    """
    having = []
    for _ in range(seconds):
        for session_id, task_count in task_counts.items():
            busy = frozenset(worker.worker_id for worker in core.workers_of(session_id=session_id))
            step(core, fleet.TasksCounted(session_id, task_count, busy))
        step(core, fleet.SecondPassed())
        for worker in list(core.workers.values()):
            if worker.is_draining and worker.session_id not in long_calls:
                step(core, ended(worker.worker_id, "exit code 0", is_clean=True))
        core.check()
        having.append({worker.session_id for worker in core.workers.values()})
    return having


def longest_gap(having: list[set[int]], session_id: int) -> int:
    """The longest time that a session had no core, s."""
    gap = longest = 0
    for each in having:
        gap = 0 if session_id in each else gap + 1
        longest = max(longest, gap)
    return longest


def test_session_whose_turn_has_come_gets_a_core_though_a_long_call_holds_another() -> None:
    """Three sessions, two cores, one of them for hours: the other two take turns on the other core."""
    for hog in (1, 2, 3):
        core = warm(2, serialize_jobs=0)
        for session_id in (1, 2, 3):
            most = 1 if session_id == hog else 0
            step(core, fleet.SessionRequested(session_id, (session_id,), max_workers=most))

        having = play(core, {hog}, 20 * TURN_S, {1: 100, 2: 100, 3: 100})

        for session_id in {1, 2, 3} - {hog}:
            assert longest_gap(having, session_id) <= 90, (hog, session_id)


def test_cores_that_do_not_drain_are_looked_for_elsewhere() -> None:
    """Two workers of four were asked to end and do not: the other two go in their place."""
    core = warm(4, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.TasksCounted(1, 100, frozenset({"run-1", "run-2", "run-3", "run-4"})))
    first = drains(step(core, fleet.SessionRequested(2, (11,))))

    step(core, fleet.TasksCounted(2, 100))
    waited = [action for _ in range(DRAIN_PATIENCE_S - 1) for action in step(core, fleet.SecondPassed())]
    second = drains(step(core, fleet.SecondPassed()))
    for _, worker_id in second:
        step(core, ended(worker_id, "exit code 0", is_clean=True))
    step(core, fleet.TasksCounted(1, 100, frozenset(worker_id for _, worker_id in first)))
    settled = [action for _ in range(100) for action in step(core, fleet.SecondPassed())]

    assert len(first) == len(second) == 2
    assert drains(waited) == []
    assert len(core.workers_of(session_id=2)) == 2
    assert settled == []
    core.check()


def test_core_that_an_ended_session_still_holds_is_promised_to_nobody() -> None:
    """Its process cannot be killed: who has its turn gets another core."""
    core = warm(2, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,), max_workers=1))
    step(core, fleet.SessionEnded(1, is_forced=True))
    for session_id in (2, 3):
        step(core, fleet.SessionRequested(session_id, (session_id,)))

    having = play(core, {1}, 10 * TURN_S, {2: 100, 3: 100})

    assert longest_gap(having, 2) <= 61
    assert longest_gap(having, 3) <= 61


def test_session_that_never_had_a_task_gives_its_cores_to_one_that_has() -> None:
    """An executor that somebody forgot holds nobody up; its first task brings its demand back."""
    core = warm(4, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, ()))
    step(core, fleet.SessionRequested(2, (11,)))

    play(core, set(), UNUSED_S + 2, {2: 1000})
    used = {session_id: len(core.workers_of(session_id=session_id)) for session_id in (1, 2)}
    play(core, set(), 3, {1: 100, 2: 1000})
    shared = {session_id: len(core.workers_of(session_id=session_id)) for session_id in (1, 2)}

    assert used == {1: 0, 2: 4}
    assert shared == {1: 2, 2: 2}


def test_session_that_never_had_a_task_keeps_its_cores_while_nobody_wants_them() -> None:
    """Its first task finds them warm."""
    core = warm(2, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, ()))

    actions = [action for _ in range(10 * UNUSED_S) for action in step(core, fleet.SecondPassed())]

    assert actions == []
    assert len(core.workers) == 2


def test_first_task_of_an_idle_session_brings_its_share_back_in_the_same_turn() -> None:
    """It does not wait for the next second."""
    core = warm(4, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, ()))
    step(core, fleet.SessionRequested(2, (11,)))
    play(core, set(), UNUSED_S + 2, {2: 1000})
    assert core.sessions[1].is_idle

    actions = step(core, fleet.TasksCounted(1, 100))

    assert [session_id for session_id, _ in drains(actions)] == [2, 2]


def test_idle_sessions_share_what_a_session_with_tasks_leaves() -> None:
    """They hold nobody up, and lose only what somebody wants."""
    core = warm(4, serialize_jobs=0)
    for session_id in (1, 2):
        step(core, fleet.SessionRequested(session_id, ()))
    play(core, set(), UNUSED_S + 2, {})
    step(core, fleet.SessionRequested(3, (), max_workers=2))

    play(core, set(), 3, {3: 1000})
    used = {session_id: len(core.workers_of(session_id=session_id)) for session_id in (1, 2, 3)}

    assert used == {1: 1, 2: 1, 3: 2}


def test_workers_that_come_back_do_not_stay_beyond_what_their_session_may_have() -> None:
    """Others were started in their place while their node was out of reach."""
    core = Fleet([HostCores("n1", -1), HostCores("n2", -1)], 0, "run")
    step(core, fleet.NodeReported("n2", "n2", 4, "warm", frozenset()))
    step(core, fleet.SessionRequested(1, (), max_workers=2, resumed=()))
    step(core, fleet.TasksCounted(1, 9, frozenset({"old-1", "run-1"})))
    assert len(core.workers) == 2

    workers = (("old-1", 1), ("old-2", 1))
    present = frozenset(name for name, _ in workers)
    actions = step(core, fleet.NodeReported("n1", "n1", 4, "warm", present, workers))

    assert {action.worker_id for action in actions if isinstance(action, fleet.DrainWorker)} == {
        "old-2",
        "run-2",
    }
    core.check()
