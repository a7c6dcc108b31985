"""The fleet core: nodes that were given up and come back."""

from __future__ import annotations

from quakegrid.config import HostCores
from services.broker import fleet_events as fleet
from services.broker.fleet import Fleet


def test_lost_node_that_is_back_ends_what_it_still_runs() -> None:
    """Its workers' tasks run elsewhere, their lane refuses them: cores are free when they have ended."""
    core = Fleet([HostCores("n0", -1), HostCores("n1", -1)], 0, "run")
    core.handle(fleet.NodeReported("n0", "node0", 1, "warm"))
    core.handle(fleet.NodeReported("n1", "node1", 1, "warm"))
    core.handle(fleet.SessionRequested(1, (10,)))
    core.handle(fleet.WorkersStarted(("run-1", "run-2")))
    core.handle(fleet.NodeLost("n0", "gone"))

    still = (("run-1", 1),)
    back = core.handle(fleet.NodeReported("n0", "node0", 1, "warm", frozenset(["run-1"]), still))
    told_again = core.handle(fleet.NodeReported("n0", "node0", 1, "warm", None, still))
    ended = core.handle(fleet.WorkerExited("run-1", "killed by SIGKILL", is_clean=True))

    assert back == [fleet.StopWorkers("n0", 1, is_forced=True, worker_ids=("run-1",))]
    assert told_again == []
    assert [action for action in ended if isinstance(action, fleet.StartWorkers)] == [
        fleet.StartWorkers("n0", 1, ("run-3",))
    ]
    core.check()


def test_lost_node_that_is_back_ends_workers_of_sessions_that_are_gone() -> None:
    """Nobody told it while it was out of reach."""
    core = Fleet([HostCores("n0", -1)], 0, "run")
    core.handle(fleet.NodeReported("n0", "node0", 1, "warm"))
    core.handle(fleet.NodeLost("n0", "gone"))

    back = core.handle(fleet.NodeReported("n0", "node0", 1, "warm", frozenset(["old-1"]), (("old-1", 7),)))

    assert back == [fleet.StopWorkers("n0", 7, is_forced=True, worker_ids=("old-1",))]
    core.check()
