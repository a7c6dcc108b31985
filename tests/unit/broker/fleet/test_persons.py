"""Cores and turns are divided among persons first, and then among the sessions of each."""

from __future__ import annotations

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import TURN_S, Fleet
from quakegrid.services.broker.fleet.queue import MAX_AHEAD, MAX_REMEMBERED, SessionQueue
from quakegrid.services.broker.fleet.state import FleetSession, PersonLimits, SessionPhase
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended, step

MANY = 1000


def warm(
    *cores: int, serialize_jobs: int = 0, max_jobs: int = 0, max_cores: int = 0, cores_per_worker: int = 1
) -> Fleet:
    """A fleet of nodes that are up."""
    limits = PersonLimits(max_jobs, max_cores)
    core = Fleet([HostCores(f"n{i}", -1) for i in range(len(cores))], serialize_jobs, "run", limits=limits)
    for number, count in enumerate(cores):
        report = fleet.NodeReported(
            f"n{number}", f"node{number}", count, "warm", cores_per_worker=cores_per_worker
        )
        step(core, report)
    return core


def request(core: Fleet, session_id: int, person: str, *, weight: float = 1.0) -> list[fleet.Action]:
    """A person's calculation wants to execute; its job has the number of the session."""
    return step(core, fleet.SessionRequested(session_id, (session_id,), weight=weight, person=person))


def work(core: Fleet, task_count: int = MANY) -> None:
    """Every session has tasks, and workers end and start as they are told, until nothing changes."""
    for session_id in list(core.sessions):
        busy = frozenset(each.worker_id for each in core.workers.staying(session_id))
        step(core, fleet.TasksCounted(session_id, task_count, busy))
    while any(worker.is_draining for worker in core.workers.values()):
        for worker in list(core.workers.values()):
            if worker.is_draining:
                step(core, ended(worker.worker_id, "exit code 0", is_clean=True))
        core.check()


def used(core: Fleet, *session_ids: int) -> list[int]:
    """Cores of these sessions."""
    return [core.workers.used[session_id] for session_id in session_ids]


def queued(actions: list[fleet.Action]) -> list[fleet.Queue]:
    """What sessions are told of their place."""
    return [action for action in actions if isinstance(action, fleet.Queue)]


def admitted(actions: list[fleet.Action]) -> list[int]:
    """The sessions that may execute."""
    return [action.session_id for action in actions if isinstance(action, fleet.Admit)]


def test_ten_jobs_of_one_person_get_no_more_than_the_one_of_another() -> None:
    """Half each."""
    core = warm(20)
    for session_id in range(1, 11):
        request(core, session_id, "anna")
    request(core, 11, "ben")

    work(core)

    assert sum(used(core, *range(1, 11))) == 10
    assert used(core, *range(1, 12)) == [1] * 10 + [10]


def test_sessions_of_nobody_count_as_persons() -> None:
    """As before there were persons."""
    core = warm(9)
    request(core, 1, "")
    request(core, 2, "")
    request(core, 3, "anna")

    work(core)

    assert used(core, 1, 2, 3) == [3, 3, 3]


def test_weight_divides_what_a_person_has_and_takes_nothing_from_others() -> None:
    """A heavy session is heavy among the sessions of its person."""
    core = warm(16)
    request(core, 1, "anna", weight=3.0)
    request(core, 2, "anna")
    request(core, 3, "ben")

    work(core)

    assert used(core, 1, 2, 3) == [6, 2, 8]


def test_person_can_step_back_behind_others() -> None:
    """If all sessions that want cores are light."""
    core = warm(12)
    request(core, 1, "anna", weight=0.5)
    request(core, 2, "ben")

    work(core)

    assert used(core, 1, 2) == [4, 8]


def test_persons_take_turns_where_there_are_fewer_cores_than_persons() -> None:
    """Anna's three jobs wait no less than Ben's one: each person has the core for one turn of two."""
    core = warm(1)
    for session_id in (1, 2, 3):
        request(core, session_id, "anna")
    request(core, 4, "ben")
    had = dict.fromkeys((1, 2, 3, 4), 0)

    for _ in range(12):
        work(core)
        for session_id in had:
            had[session_id] += core.workers.used[session_id]
        for _ in range(TURN_S):
            step(core, fleet.SecondPassed())
            core.check()

    assert had == {1: 2, 2: 2, 3: 2, 4: 6}


def test_sessions_of_a_person_take_turns_while_another_person_has_cores_enough() -> None:
    """Anna's three jobs on her one core; Ben keeps his."""
    core = warm(2)
    for session_id in (1, 2, 3):
        request(core, session_id, "anna")
    request(core, 4, "ben")
    work(core)
    bens = core.workers.staying(4)
    had = dict.fromkeys((1, 2, 3), 0)

    for _ in range(9):
        work(core)
        for session_id in had:
            had[session_id] += core.workers.used[session_id]
        for _ in range(TURN_S):
            step(core, fleet.SecondPassed())

    assert had == {1: 3, 2: 3, 3: 3}
    assert core.workers.staying(4) == bens


def test_new_session_of_a_person_comes_neither_before_nor_behind_the_others() -> None:
    """It begins with what the person's least served session has."""
    core = warm(2)
    request(core, 1, "anna")
    request(core, 2, "anna")
    request(core, 3, "ben")
    for _ in range(4):
        work(core)
        for _ in range(TURN_S):
            step(core, fleet.SecondPassed())

    request(core, 4, "anna")

    assert core.sessions[4].served == min(core.sessions[1].served, core.sessions[2].served) > 0


def test_person_has_at_most_so_many_cores() -> None:
    """`max_cores_per_user` holds for all sessions of a person together, also where cores are free."""
    core = warm(8, 8, max_cores=6)
    request(core, 1, "anna")
    request(core, 2, "ben")
    work(core)
    before = used(core, 1, 2)

    actions = request(core, 3, "anna")

    # Her first session gives what the second one gets, and until then there is no more of hers.
    assert before == [6, 6]
    assert [type(action) for action in actions if not isinstance(action, fleet.Admit)] == [
        fleet.DrainWorker
    ] * 3
    assert used(core, 1, 3) == [6, 0]
    work(core)
    assert used(core, 1, 2, 3) == [3, 6, 3]


def test_idle_workers_of_a_person_make_way_first() -> None:
    """The session with most cores above its share gives them."""
    core = warm(8, max_cores=4)
    request(core, 1, "anna")
    names = [worker.worker_id for worker in core.workers.staying(1)]
    step(core, fleet.TasksCounted(1, MANY, frozenset(names[2:])))

    actions = request(core, 2, "anna")

    assert actions[1:] == [fleet.DrainWorker(1, names[1]), fleet.DrainWorker(1, names[0])]


def test_limit_of_cores_holds_where_sessions_leave_nodes_out() -> None:
    """Also for the cores that nobody else can use."""
    core = warm(4, 4, max_cores=5)
    old = fleet.NodeReported("n1", "node1", 4, "warm", fingerprint={"code": "old"})
    new = fleet.NodeReported("n0", "node0", 4, "warm", fingerprint={"code": "new"})
    step(core, old)
    step(core, new)
    step(core, fleet.SessionRequested(1, (1,), fingerprint={"code": "new"}, person="anna"))
    step(core, fleet.SessionRequested(2, (2,), fingerprint={"code": "old"}, person="anna"))

    work(core)

    assert sum(used(core, 1, 2)) == 5


def test_second_person_begins_before_the_rest_of_a_long_queue() -> None:
    """With one slot and 50 queued calculations of Anna, Ben waits for the one that executes."""
    core = warm(1, serialize_jobs=1)
    for session_id in range(1, 51):
        request(core, session_id, "anna")

    told = request(core, 51, "ben")
    order = []
    for _ in range(4):
        (executing,) = [each.session_id for each in core.sessions.values() if each.is_admitted]
        order.append(executing)
        step(core, fleet.SessionEnded(executing, is_forced=False))
        core.check()

    assert fleet.Queue(51, (1,)) in queued(told)
    assert order == [1, 51, 2, 3]


def test_next_slot_goes_to_the_person_with_fewest_executing_sessions() -> None:
    """Anna has two of three slots; the third one changes between Ben and Carl before she has it."""
    core = warm(4, serialize_jobs=3)
    for session_id, person in enumerate(("anna", "anna", "ben", "anna", "ben", "carl"), 1):
        request(core, session_id, person)

    first = admitted(step(core, fleet.SessionEnded(3, is_forced=False)))
    second = admitted(step(core, fleet.SessionEnded(6, is_forced=False)))

    assert (first, second) == ([6], [5])
    assert admitted(step(core, fleet.SessionEnded(1, is_forced=False))) == [4]


def test_sessions_are_told_the_order_in_which_they_will_begin() -> None:
    """If those that execute end one after the other."""
    core = warm(1, serialize_jobs=1)
    for session_id in (1, 2, 3):
        request(core, session_id, "anna")
    request(core, 4, "ben")
    request(core, 5, "ben")

    assert {each.session_id: each.ahead for each in core.sessions.values()} == {
        1: (),
        4: (1,),
        2: (1, 4),
        5: (1, 4, 2),
        3: (1, 4, 2, 5),
    }


def test_session_waits_while_its_person_has_all_that_may_execute() -> None:
    """`max_jobs_per_user`: it is told so, and of its own person's jobs only."""
    core = warm(4, max_jobs=2)
    request(core, 1, "anna")
    request(core, 2, "anna")

    told = request(core, 3, "anna")
    others = request(core, 4, "ben")
    last = request(core, 5, "anna")

    words = "anna has 2 of 2 calculations that may execute at once"
    assert queued(told) == [fleet.Queue(3, (1, 2), words)]
    assert fleet.Admit(4) in others
    assert queued(last) == [fleet.Queue(5, (1, 2, 3), words)]
    after = step(core, fleet.SessionEnded(1, is_forced=False))
    assert admitted(after) == [3]
    assert queued(after) == [fleet.Queue(5, (2, 3), words)]


def test_both_limits_hold_together() -> None:
    """A person who has all leaves the free slot to the next person, or to nobody."""
    core = warm(4, serialize_jobs=3, max_jobs=1)
    request(core, 1, "anna")
    request(core, 2, "anna")
    request(core, 3, "")
    request(core, 4, "ben")

    told = request(core, 5, "")

    assert [each.session_id for each in core.sessions.values() if each.is_admitted] == [1, 3, 4]
    # Before Anna's second one, since Anna has had a turn.
    assert queued(told) == [fleet.Queue(5, (1, 3, 4))]
    assert admitted(step(core, fleet.SessionEnded(4, is_forced=False))) == [5]
    core.check()


def test_resumed_sessions_count_as_begun() -> None:
    """Who has more sessions of the earlier broker than the settings allow begins no further one."""
    core = warm(4, serialize_jobs=1, max_jobs=1)
    for session_id in (1, 2):
        step(core, fleet.SessionRequested(session_id, (session_id,), resumed=(), person="anna"))
    request(core, 3, "anna")
    request(core, 4, "ben")

    core.check()
    assert admitted(step(core, fleet.SessionEnded(1, is_forced=False))) == []
    assert admitted(step(core, fleet.SessionEnded(2, is_forced=False))) == [4]
    assert admitted(step(core, fleet.SessionEnded(4, is_forced=False))) == [3]


@pytest.mark.parametrize(("limit", "max_jobs"), [(1, 0), (0, 1)])
def test_more_sessions_than_may_execute_are_a_bug(limit: int, max_jobs: int) -> None:
    """The check sees it."""
    sessions = {
        number: FleetSession(number, (number,), is_local=False, phase=SessionPhase.EXECUTING, person="anna")
        for number in (1, 2)
    }

    with pytest.raises(IllegalMoveError, match=r"2 .*execute, 1 may"):
        SessionQueue(sessions, limit, PersonLimits(max_jobs)).check()


def test_queue_remembers_a_bounded_number_of_persons_and_jobs() -> None:
    """The oldest is forgotten; a driver is told the first jobs before it."""
    core = warm(1, serialize_jobs=1)
    for number in range(1, MAX_REMEMBERED + 3):
        request(core, number, f"person{number}")
        step(core, fleet.SessionEnded(number, is_forced=False))
    step(core, fleet.SessionRequested(5000, tuple(range(1, MAX_AHEAD + 50)), person="anna"))

    told = request(core, 5001, "ben")
    later = request(core, 5002, "anna")

    assert queued(later) == [fleet.Queue(5002, tuple(range(1, MAX_AHEAD + 1)))]
    assert len(core._queue._last_began) == MAX_REMEMBERED
    assert queued(told) == [fleet.Queue(5001, tuple(range(1, MAX_AHEAD + 1)))]
