"""The fleet core: nodes that were given up and come back."""

from __future__ import annotations

from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.services.broker.fleet.deaths import STRANGE_S
from quakegrid.services.broker.fleet.leftovers import RESUME_GRACE_S, STOP_AGAIN_S
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended, step


def test_lost_node_that_is_back_ends_what_it_still_runs() -> None:
    """Its workers' tasks run elsewhere, their lane refuses them: cores are free when they have ended."""
    core = Fleet([HostCores("n0", -1), HostCores("n1", -1)], 0, "run")
    step(core, fleet.NodeReported("n0", "node0", 1, "warm"))
    step(core, fleet.NodeReported("n1", "node1", 1, "warm"))
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.WorkersStarted(("run-1", "run-2")))
    step(core, fleet.NodeLost("n0", "gone"))

    still = (("run-1", 1),)
    back = step(core, fleet.NodeReported("n0", "node0", 1, "warm", frozenset(["run-1"]), still))
    told_again = step(core, fleet.NodeReported("n0", "node0", 1, "warm", None, still))
    last = step(core, ended("run-1", "killed by SIGKILL", is_clean=True))

    assert back == [fleet.StopWorkers("n0", 1, is_forced=True, worker_ids=("run-1",))]
    assert told_again == []
    assert [action for action in last if isinstance(action, fleet.StartWorkers)] == [
        fleet.StartWorkers("n0", 1, ("run-3",))
    ]
    core.check()


def test_lost_node_that_is_back_ends_workers_of_sessions_that_are_gone() -> None:
    """Nobody told it while it was out of reach."""
    core = Fleet([HostCores("n0", -1)], 0, "run")
    step(core, fleet.NodeReported("n0", "node0", 1, "warm"))
    step(core, fleet.NodeLost("n0", "gone"))

    back = step(core, fleet.NodeReported("n0", "node0", 1, "warm", frozenset(["old-1"]), (("old-1", 7),)))

    assert back == [fleet.StopWorkers("n0", 7, is_forced=True, worker_ids=("old-1",))]
    core.check()


def stops(actions: list[fleet.Action]) -> list[fleet.StopWorkers]:
    """The orders to stop workers."""
    return [action for action in actions if isinstance(action, fleet.StopWorkers)]


def reported(*workers: tuple[str, int], present: frozenset[str] | None = None) -> fleet.NodeReported:
    """Node n0 with two cores and these workers."""
    return fleet.NodeReported("n0", "node0", 2, "warm", present, workers)


def busy_node() -> Fleet:
    """A node whose two workers are session 1's."""
    core = Fleet([HostCores("n0", -1)], 0, "run")
    step(core, reported())
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.WorkersStarted(("run-1", "run-2")))
    step(core, reported(("run-1", 1), ("run-2", 1)))
    return core


def test_lost_order_to_stop_is_given_again_when_the_agent_is_back() -> None:
    """Its link was cut around the end of the session, for less time than makes the node lost."""
    core = busy_node()
    first = stops(step(core, fleet.SessionEnded(1, is_forced=True)))

    back = step(core, reported(("run-1", 1), ("run-2", 1), present=frozenset(["run-1", "run-2"])))

    assert first == [fleet.StopWorkers("n0", 1, is_forced=True)]
    assert stops(back) == [fleet.StopWorkers("n0", 1, is_forced=True, worker_ids=("run-1", "run-2"))]


def test_order_to_stop_that_had_no_effect_is_given_again_after_a_while() -> None:
    """The agent may have failed to obey, and nothing changes that it would report."""
    core = busy_node()
    step(core, fleet.SessionEnded(1, is_forced=False))

    early = [action for _ in range(STOP_AGAIN_S - 1) for action in step(core, fleet.SecondPassed())]
    due = step(core, fleet.SecondPassed())
    step(core, ended("run-1", "killed by SIGKILL", is_clean=True))
    step(core, reported(("run-2", 1)))
    later = [action for _ in range(STOP_AGAIN_S) for action in step(core, fleet.SecondPassed())]
    step(core, reported())
    silent = [action for _ in range(100) for action in step(core, fleet.SecondPassed())]

    assert early == []
    assert due == [fleet.StopWorkers("n0", 1, is_forced=True, worker_ids=("run-1", "run-2"))]
    assert later == [fleet.StopWorkers("n0", 1, is_forced=True, worker_ids=("run-2",))]
    assert silent == []


def test_workers_that_nobody_ordered_are_stopped_once_their_driver_could_be_back() -> None:
    """They may be an earlier broker's."""
    core = Fleet([HostCores("n0", -1)], 0, "run")

    first = step(core, reported(("old-1", 7), ("old-2", 8), present=frozenset(["old-1", "old-2"])))
    step(core, fleet.SessionRequested(7, (1,), resumed=core.leftovers.workers_of(7)))
    waited = [action for _ in range(RESUME_GRACE_S) for action in step(core, fleet.SecondPassed())]

    assert stops(first) == []
    assert stops(waited) == [fleet.StopWorkers("n0", 8, is_forced=True, worker_ids=("old-2",))]
    assert list(core.workers) == ["old-1", "run-1"]


def test_worker_that_started_after_its_session_ended_is_stopped() -> None:
    """The order to start it was under way."""
    core = Fleet([HostCores("n0", -1)], 0, "run")
    step(core, reported())
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.SessionEnded(1, is_forced=True))
    for _ in range(RESUME_GRACE_S):
        step(core, fleet.SecondPassed())

    late = step(core, reported(("run-1", 1)))

    assert stops(late) == [fleet.StopWorkers("n0", 1, is_forced=True, worker_ids=("run-1",))]


def test_order_to_stop_what_a_lost_node_still_runs_is_given_until_it_does_not() -> None:
    """Its session lives on, and its lane knows these workers no more."""
    core = busy_node()
    step(core, fleet.NodeLost("n0", "gone"))

    step(core, reported(("run-1", 1), present=frozenset(["run-1"])))
    again = step(core, reported(("run-1", 1), present=frozenset(["run-1"])))

    assert stops(again) == [fleet.StopWorkers("n0", 1, is_forced=True, worker_ids=("run-1",))]
    assert core.workers["run-1"].is_draining
    core.check()


def test_worker_that_nobody_is_sure_of_is_lost_if_the_next_first_report_has_none() -> None:
    """Its start was not answered; it may have joined its lane, and have ended unseen."""
    core = Fleet([HostCores("n1", -1)], 0, "run")
    step(core, fleet.NodeReported("n1", "n1", 2, "warm", frozenset()))
    step(core, fleet.SessionRequested(1, ()))
    assert sorted(core.workers) == ["run-1", "run-2"]

    step(core, fleet.WorkersUnsure(("run-1", "run-2", "nobody")))
    report = fleet.NodeReported("n1", "n1", 2, "warm", frozenset({"run-2"}), (("run-2", 1),))
    actions = step(core, report)

    lost = [action.end.worker_id for action in actions if isinstance(action, fleet.LoseWorker)]
    assert lost == ["run-1"]
    assert "run-2" in core.workers
    core.check()


def test_worker_that_a_lane_has_and_no_agent_is_lost_after_a_time() -> None:
    """It joined the lane of a new broker, and ended before that reached its agent."""
    core = Fleet([HostCores("n1", -1)], 0, "run")
    step(core, fleet.NodeReported("n1", "n1", 1, "warm", frozenset()))
    step(core, fleet.SessionRequested(1, (), resumed=()))
    step(core, fleet.TasksCounted(1, 2, frozenset({"run-1", "old-1"})))

    found = [step(core, fleet.SecondPassed()) for _ in range(2 * STRANGE_S)]

    lost = [
        (second, action.end.worker_id, action.end.is_blameless)
        for second, actions in enumerate(found, 1)
        for action in actions
        if isinstance(action, fleet.LoseWorker)
    ]
    assert lost == [(STRANGE_S, "old-1", True), (2 * STRANGE_S, "old-1", True)]


def test_worker_that_was_lost_before_it_began_is_lost_again_if_a_lane_has_it() -> None:
    """The order to start it was on its way when its node was lost. Then its lane died; it joined the next."""
    core = Fleet([HostCores("n1", -1)], 0, "run")
    step(core, fleet.NodeReported("n1", "n1", 1, "warm", frozenset()))
    step(core, fleet.SessionRequested(1, ()))
    step(core, fleet.NodeLost("n1", "gone"))
    step(core, fleet.WorkersStarted(("run-1",)))
    step(core, fleet.TasksCounted(1, 2, frozenset({"run-1"})))

    found = [action for _ in range(STRANGE_S) for action in step(core, fleet.SecondPassed())]

    assert [action.end.worker_id for action in found if isinstance(action, fleet.LoseWorker)] == ["run-1"]
