"""On which nodes workers start: spread over the fleet, or packed into few nodes."""

from __future__ import annotations

from collections import Counter

from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.settings.hosts import HostCores
from tests.support.fleets import ended, step
from tests.unit.broker.fleet.test_fleet import starts, warm


def hosts(core: Fleet, session_id: int) -> Counter[str]:
    """How many workers a session has on each node."""
    return Counter(worker.host for worker in core.workers_of(session_id=session_id))


def test_eight_workers_of_four_nodes_are_two_on_each() -> None:
    """The workers of a node share its memory bandwidth."""
    core = warm(32, 32, 32, 32)

    actions = step(core, fleet.SessionRequested(1, (10,), max_workers=8))

    assert starts(actions) == {"n0": 2, "n1": 2, "n2": 2, "n3": 2}
    core.check()


def test_eight_workers_of_a_packed_fleet_are_on_one_node() -> None:
    """The others stay empty, and may be given back to whoever rents them out."""
    core = warm(32, 32, 32, 32, is_packed=True)

    first = step(core, fleet.SessionRequested(1, (10,), max_workers=8))
    more = step(core, fleet.SessionRequested(2, (), max_workers=30))

    assert starts(first) == {"n0": 8}
    assert starts(more) == {"n0": 24, "n1": 6}
    core.check()


def test_small_node_is_filled_and_the_others_share_the_rest() -> None:
    """A node never gets more workers than it has cores."""
    core = warm(1, 8, 8)

    actions = step(core, fleet.SessionRequested(1, (10,), max_workers=9))

    assert starts(actions) == {"n0": 1, "n1": 4, "n2": 4}


def test_workers_spread_over_the_nodes_that_are_not_left_out() -> None:
    """The node that the session leaves out stays empty."""
    core = Fleet([HostCores(name, -1) for name in "abc"], 0, "run")
    for name in "abc":
        has = {"x": "none" if name == "a" else "1"}
        step(core, fleet.NodeReported(name, name, 8, "warm", fingerprint=has))

    actions = step(core, fleet.SessionRequested(1, (10,), max_workers=4, fingerprint={"x": "1"}))

    assert starts(actions) == {"b": 2, "c": 2}


def test_second_session_starts_where_the_first_has_fewest_workers() -> None:
    """What counts is how many cores of a node are used, whosever workers use them."""
    core = warm(8, 8, 8, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,), max_workers=4))

    actions = step(core, fleet.SessionRequested(2, (11,), max_workers=5))

    assert hosts(core, 1) == {"n0": 2, "n1": 1, "n2": 1}
    assert starts(actions) == {"n1": 2, "n2": 2, "n0": 1}


def test_worker_that_ended_is_replaced_where_it_was_missing() -> None:
    """So that a fleet stays balanced."""
    core = warm(8, 8)
    step(core, fleet.SessionRequested(1, (10,), max_workers=4))

    again = step(core, ended("run-2", "exit code 1", is_clean=False))

    assert starts(again) == {"n0": 1}
    assert hosts(core, 1) == {"n0": 2, "n1": 2}


def test_wide_workers_spread_too() -> None:
    """A node that has no room for a wide one is left to others, as long as another node has it."""
    core = warm(6, 3, 6)

    actions = step(core, fleet.SessionRequested(1, (10,), max_workers=3, width=4))

    assert starts(actions) == {"n0": 1, "n2": 1, "n1": 1}
    assert [action.width for action in actions if isinstance(action, fleet.StartWorkers)] == [4, 4, 3]
