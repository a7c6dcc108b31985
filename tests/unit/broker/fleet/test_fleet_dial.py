"""The fleet core when a node gives fewer cores, or more, or is short of memory."""

from __future__ import annotations

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended, step
from tests.unit.broker.fleet.test_fleet import drains, starts, warm


def dial(core: Fleet, host: str, core_count: int) -> list[fleet.Action]:
    """A node's person decides."""
    actions = step(core, fleet.NodeReported(host, host, core_count, "warm"))
    core.check()
    return actions


def test_fewer_cores_drain_as_many_workers_idle_ones_first() -> None:
    """Who holds a task stays, as far as there are cores."""
    core = warm(4)
    step(core, fleet.SessionRequested(1, (10,)))
    step(core, fleet.TasksCounted(1, 2, frozenset({"run-1", "run-3"})))

    actions = dial(core, "n0", 2)

    assert sorted(drains(actions)) == [(1, "run-2"), (1, "run-4")]
    assert actions == [fleet.DrainWorker(*each) for each in drains(actions)]


def test_more_cores_start_workers_at_once() -> None:
    """And while drained workers still hold cores, only as many as are free."""
    core = warm(4)
    step(core, fleet.SessionRequested(1, (10,)))
    down = dial(core, "n0", 1)

    up = dial(core, "n0", 4)
    exited = step(core, ended(drains(down)[0][1], "exit code 0", is_clean=True))

    assert len(drains(down)) == 3
    assert starts(up) == {}
    assert starts(exited) == {"n0": 1}


def test_no_worker_starts_while_more_than_the_cores_still_end() -> None:
    """A core that is taken away is not given out when one of its workers is gone."""
    core = warm(4)
    step(core, fleet.SessionRequested(1, (10,)))
    drained = [worker_id for _, worker_id in drains(dial(core, "n0", 2))]

    actions = [
        action
        for worker_id in drained
        for action in step(core, ended(worker_id, "exit code 0", is_clean=True))
    ]

    assert starts(actions) == {}
    assert len(core.workers) == 2


def test_no_core_drains_the_only_node() -> None:
    """It is up all the same, and its workers come back with its cores."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))

    down = dial(core, "n0", 0)
    for _, worker_id in drains(down):
        step(core, ended(worker_id, "exit code 0", is_clean=True))
    up = dial(core, "n0", 2)

    assert len(drains(down)) == 2
    assert core.nodes["n0"].is_ready
    assert starts(up) == {"n0": 2}


def test_host_cores_stay_the_upper_bound() -> None:
    """Whatever the node would give."""
    core = Fleet([HostCores("n0", 3)], 1, "run")
    step(core, fleet.SessionRequested(1, (10,)))

    assert starts(dial(core, "n0", 8)) == {"n0": 3}
    assert drains(dial(core, "n0", 4)) == []
    assert len(drains(dial(core, "n0", 1))) == 2


def test_workers_go_from_who_has_most_above_its_share() -> None:
    """Both sessions keep their shares of what is left."""
    core = warm(4, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,), max_workers=1))
    step(core, fleet.SessionRequested(2, (11,)))

    actions = dial(core, "n0", 2)

    assert [session_id for session_id, _ in drains(actions)] == [2, 2]


def test_session_that_loses_all_workers_of_a_node_gets_others() -> None:
    """The cores of the other nodes are divided anew."""
    core = warm(2, 2, serialize_jobs=0, is_packed=True)
    step(core, fleet.SessionRequested(1, (10,), max_workers=2))
    step(core, fleet.SessionRequested(2, (11,), max_workers=2))
    held = {worker.session_id: worker.host for worker in core.workers.values()}

    actions = dial(core, "n0", 0)

    assert held == {1: "n0", 2: "n1"}
    assert [session_id for session_id, _ in drains(actions)] == [1, 1, 2]


def test_node_whose_template_loads_drains_nobody() -> None:
    """What it gives is not known then."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))

    assert step(core, fleet.NodeReported("n0", "n0", 2, "loading")) == []
    core.check()


def test_node_short_of_memory_goes_on_with_one_worker() -> None:
    """Until it has memory again; no job stands still."""
    core = warm(4)
    step(core, fleet.SessionRequested(1, (10,)))

    short = step(core, fleet.NodeReported("n0", "n0", 4, "warm", is_short_of_memory=True))
    for _, worker_id in drains(short):
        step(core, ended(worker_id, "exit code 0", is_clean=True))
    over = dial(core, "n0", 4)

    assert len(drains(short)) == 3
    assert starts(over) == {"n0": 3}


def test_wider_workers_are_fewer() -> None:
    """`host_cores` counts cores; what does not fill a worker stays free."""
    core = Fleet([HostCores("n0", 5)], 1, "run")
    step(core, fleet.SessionRequested(1, (10,)))

    actions = step(core, fleet.NodeReported("n0", "n0", 8, "warm", cores_per_worker=2))

    assert starts(actions) == {"n0": 2}


def test_check_finds_workers_beyond_the_cores() -> None:
    """The invariant that placement keeps."""
    core = warm(2)
    step(core, fleet.SessionRequested(1, (10,)))

    core.nodes["n0"].core_count = 1

    with pytest.raises(IllegalMoveError, match="n0 gives 1 cores, 2 stay in use"):
        core.check()
