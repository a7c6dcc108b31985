"""Who makes way for sessions that leave nodes out."""

from __future__ import annotations

import pytest

from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.services.broker.fleet.cores import CoreTable, NodeTally
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended, step


def mixed_fleet(cores_a: int, cores_b: int) -> Fleet:
    """Two nodes of which only `a` has what demanding sessions ask for."""
    core = Fleet([HostCores("a", -1), HostCores("b", -1)], 0, "run")
    step(core, fleet.NodeReported("a", "a", cores_a, "warm", fingerprint={"x": "1"}))
    step(core, fleet.NodeReported("b", "b", cores_b, "warm", fingerprint={"x": "none"}))
    return core


def demanding(session_id: int) -> fleet.SessionRequested:
    """A session that only `a` fits."""
    return fleet.SessionRequested(session_id, (), fingerprint={"x": "1"})


def hosts(core: Fleet, session_id: int) -> list[str]:
    """Where a session has workers that stay."""
    mine = core.workers_of(session_id=session_id)
    return sorted(worker.host for worker in mine if not worker.is_draining)


def end_drained(core: Fleet) -> None:
    """What is drained ends."""
    for worker in [worker for worker in core.workers.values() if worker.is_draining]:
        step(core, ended(worker.worker_id, "end", is_clean=True))


def test_spare_worker_makes_way_where_its_core_helps() -> None:
    """Not on the node that is left out, though that has more of them."""
    core = mixed_fleet(1, 3)
    step(core, fleet.SessionRequested(1, ()))

    step(core, demanding(2))
    end_drained(core)

    assert hosts(core, 1) == ["b", "b", "b"]
    assert hosts(core, 2) == ["a"]
    core.check()


def test_worker_moves_to_a_free_core_of_another_node() -> None:
    """Its session loses nothing, and does not take the core back before it is used."""
    core = mixed_fleet(1, 2)
    step(core, fleet.SessionRequested(1, (), max_workers=2))
    assert hosts(core, 1) == ["a", "b"]

    step(core, demanding(2))
    end_drained(core)

    assert hosts(core, 1) == ["b", "b"]
    assert hosts(core, 2) == ["a"]
    assert step(core, fleet.SecondPassed()) == []


def test_idle_worker_moves_rather_than_a_busy_one() -> None:
    """The busy one would be waited for."""
    core = mixed_fleet(2, 2)
    step(core, fleet.SessionRequested(1, ()))
    step(core, fleet.TasksCounted(1, 100, frozenset({"run-1", "run-3", "run-4"})))
    step(core, fleet.TasksCounted(1, 100, frozenset({"run-1", "run-3", "run-4"})))

    actions = step(core, demanding(2))

    assert fleet.DrainWorker(1, "run-2") in actions


def test_cores_that_only_one_session_can_use_are_all_its_own() -> None:
    """Beyond its equal share, if nobody else fits."""
    core = mixed_fleet(1, 5)
    step(core, demanding(1))
    step(core, demanding(2))

    step(core, fleet.SessionRequested(3, ()))

    assert hosts(core, 3) == ["b"] * 5
    assert hosts(core, 1) == ["a"]
    assert step(core, fleet.SecondPassed()) == []


def test_sessions_that_leave_out_the_same_node_share_the_others() -> None:
    """One node that was not upgraded starves no session, although they leave its cores unused."""
    core = mixed_fleet(9, 3)

    for session_id in (1, 2, 3):
        step(core, demanding(session_id))
        end_drained(core)

    assert [hosts(core, session_id) for session_id in (1, 2, 3)] == [["a"] * 3] * 3
    assert step(core, fleet.SecondPassed()) == []
    core.check()


def test_sessions_share_6400_cores_beside_a_node_that_one_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker is looked at a few times, not once for each other worker."""
    hosts = [f"n{number}" for number in range(100)]
    core = Fleet([HostCores(host, -1) for host in hosts], 0, "run")
    for host in hosts:
        has = {"x": "none" if host == "n0" else "1"}
        core.handle(fleet.NodeReported(host, host, 64, "warm", fingerprint=has), 0.0)
    step(core, fleet.SessionRequested(1, ()))
    look_count = 0
    real = CoreTable.__getitem__

    def counted(self: CoreTable, host: str) -> NodeTally:
        nonlocal look_count
        look_count += 1
        return real(self, host)

    monkeypatch.setattr(CoreTable, "__getitem__", counted)
    actions = step(core, demanding(2))

    assert sum(isinstance(action, fleet.DrainWorker) for action in actions) == 3200
    assert 0 < look_count < 2 * 6400
    core.check()
