"""How the loop uses the fleet core: legal moves, one placement for a burst, the next second."""

from __future__ import annotations

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import SECOND_S
from quakegrid.services.broker.fleet.state import MOVES, FleetNode, FleetSession, NodePhase, SessionPhase
from quakegrid.services.broker.fleet.workers import WorkerTable
from tests.support.fleets import ended
from tests.unit.broker.fleet.test_fleet import drains, starts, warm


def test_burst_of_events_is_placed_once() -> None:
    """Two sessions that come in one turn of the loop share the cores at once, and no worker moves."""
    core = warm(4, serialize_jobs=0)
    core.handle(fleet.SessionRequested(1, (10,)), 0.0)
    core.handle(fleet.SessionRequested(2, (11,)), 0.0)

    placed = core.place()

    assert sorted(
        (each.session_id, len(each.worker_ids)) for each in placed if isinstance(each, fleet.StartWorkers)
    ) == [
        (1, 2),
        (2, 2),
    ]
    assert drains(placed) == []
    assert core.place() == []
    core.check()


def test_report_that_says_nothing_new_needs_no_placement() -> None:
    """An agent tells its state for many reasons."""
    core = warm(4)
    report = fleet.NodeReported("n0", "node0", 4, "warm")

    core.handle(report, 0.0)
    is_due_for_nothing = core.is_placement_due
    core.handle(fleet.NodeReported("n0", "node0", 3, "warm"), 0.0)

    assert not is_due_for_nothing
    assert core.is_placement_due


def test_fleet_of_6400_workers_looks_at_no_worker_to_replace_one() -> None:
    """What a session lacks, and where there is room, is known without counting."""
    core = warm(*[64] * 100)
    core.handle(fleet.SessionRequested(1, (10,)), 0.0)
    core.place()
    looks = 0

    def counted(self: WorkerTable, session_id: int) -> list[object]:
        nonlocal looks
        looks += 1
        return real(self, session_id)

    real = WorkerTable.staying
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WorkerTable, "staying", counted)
        for number in range(1, 101):
            core.handle(ended(f"run-{number}", "exit code 0", is_clean=True), 0.0)
        placed = core.place()

    assert sum(starts(placed).values()) == 100
    assert looks == 0
    core.check()


def test_next_second_is_a_second_after_the_last() -> None:
    """Before the first one it may come at once."""
    core = warm(1)
    before = core.next_deadline_s()

    core.handle(fleet.SecondPassed(), 7.5)

    assert before is None
    assert core.next_deadline_s() == 7.5 + SECOND_S


def test_moves_that_the_table_does_not_have_are_bugs() -> None:
    """A session that failed executes no more; a lost node is awaited by nobody."""
    session = FleetSession(1, (), is_local=False, phase=SessionPhase.FAILED)
    node = FleetNode("n0", -1, phase=NodePhase.LOST)

    with pytest.raises(IllegalMoveError, match="session 1 cannot become executing: it is failed"):
        session.move_to(SessionPhase.EXECUTING)
    with pytest.raises(IllegalMoveError, match="node n0 cannot become awaited: it is lost"):
        node.move_to(NodePhase.AWAITED)
    assert MOVES.keys() == {*NodePhase, *SessionPhase}


def test_sums_of_workers_are_checked() -> None:
    """A worker that was changed behind the table's back is found."""
    core = warm(2)
    core.handle(fleet.SessionRequested(1, (10,)), 0.0)
    core.place()

    core.workers["run-1"].core_count = 2

    with pytest.raises(IllegalMoveError, match="the sums of 2 workers are wrong"):
        core.check()


def test_sums_of_cores_are_checked() -> None:
    """A node that was changed behind the table's back is found."""
    core = warm(2)
    core.check()

    core.cores["n0"].given = 3

    with pytest.raises(IllegalMoveError, match="the sums of the cores of 1 nodes are wrong"):
        core.check()


def test_session_that_is_requested_twice_is_a_bug() -> None:
    """Its id is its own for the life of a fleet."""
    core = warm(1)
    core.handle(fleet.SessionRequested(1, (10,)), 0.0)

    with pytest.raises(IllegalMoveError, match="session 1 was requested twice"):
        core.handle(fleet.SessionRequested(1, (10,)), 0.0)


def test_check_finds_sessions_with_what_they_may_not_have() -> None:
    """Workers of a local session, more workers than its limit, a turn that it does not have."""
    core = warm(2)
    core.handle(fleet.SessionRequested(1, (10,)), 0.0)
    core.handle(fleet.SessionRequested(2, (11,)), 0.0)
    core.place()
    core.check()
    first, second = core.sessions.values()

    first.is_local = True
    with pytest.raises(IllegalMoveError, match="session 1 has 2 workers and may have none"):
        core.check()
    first.is_local, first.max_workers = False, 1
    with pytest.raises(IllegalMoveError, match="session 1 has more workers than it may"):
        core.check()
    first.max_workers = 0
    second.move_to(SessionPhase.EXECUTING)
    with pytest.raises(IllegalMoveError, match="2 sessions execute, 1 may"):
        core.check()


def test_node_that_is_stopped_and_one_that_loads_give_no_cores() -> None:
    """What a stopped node gives is known, what a loading one gives is not."""
    core = warm(2, 2)

    core.handle(fleet.NodeReported("n0", "node0", 2, "stopped", is_serving=False), 0.0)
    core.handle(fleet.NodeReported("n1", "node1", 2, "loading", is_ready=False), 0.0)

    assert [node.phase for node in core.nodes.values()] == [NodePhase.STOPPED, NodePhase.LOADING]
    assert [node.tells_cores for node in core.nodes.values()] == [True, False]
    assert core.core_count == 0
