"""The fleet core and sessions whose workers have several cores."""

from __future__ import annotations

from quakegrid.services.broker.fleet import events as fleet
from quakegrid.services.broker.fleet.core import Fleet
from tests.support.fleets import ended, step
from tests.unit.broker.fleet.test_fleet import drains, warm


def widths(actions: list[fleet.Action]) -> list[tuple[str, int, int]]:
    """Node, width and number of the workers that an answer starts."""
    found = [action for action in actions if isinstance(action, fleet.StartWorkers)]
    return [(action.host, action.width, len(action.worker_ids)) for action in found]


def exits(core: Fleet, worker_id: str) -> list[fleet.Action]:
    """A worker ends in order."""
    return step(core, ended(worker_id, "exit code 0", is_clean=True))


def test_wide_workers_fill_the_nodes() -> None:
    """What is left of a node has a narrower one."""
    core = warm(4, 5)

    actions = step(core, fleet.SessionRequested(1, (10,), width=4))

    assert widths(actions) == [("n0", 4, 1), ("n1", 4, 1), ("n1", 1, 1)]
    core.check()


def test_node_that_is_too_small_has_a_narrower_worker() -> None:
    """A job never waits for cores that no node has."""
    assert widths(step(warm(2), fleet.SessionRequested(1, (10,), width=16))) == [("n0", 2, 1)]


def test_no_more_wide_workers_than_tasks_or_than_may_be() -> None:
    """Each counts its cores."""
    core = warm(8, serialize_jobs=0)

    first = step(core, fleet.SessionRequested(1, (10,), max_workers=1, width=3))
    second = step(core, fleet.SessionRequested(2, (11,)))

    assert widths(first) == [("n0", 3, 1)]
    assert widths(second) == [("n0", 1, 5)]


def test_wide_session_waits_for_workers_that_leave_once_it_has_one() -> None:
    """The first starts at once, as narrow as there is room; the next when it can be wide."""
    core = warm(8, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,)))
    drained = drains(step(core, fleet.SessionRequested(2, (11,), width=3)))

    started = [widths(exits(core, worker_id)) for _, worker_id in drained]

    assert started == [[("n0", 1, 1)], [], [], [("n0", 3, 1)]]
    core.check()


def test_session_with_as_many_workers_as_it_may_leaves_cores_to_others() -> None:
    """Although its only worker is narrower than it asked."""
    core = warm(4, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,)))
    drained = drains(step(core, fleet.SessionRequested(2, (11,), max_workers=1, width=4)))

    exits(core, drained[0][1])
    actions = exits(core, drained[1][1])

    assert len(core.workers_of(session_id=2)) == 1
    assert widths(actions) == [("n0", 1, 1)]
    assert len(core.workers_of(session_id=1)) == 3


def test_wide_worker_goes_when_another_has_tasks_for_one_of_its_cores() -> None:
    """Its session gets back what the other leaves, in a narrower worker."""
    core = warm(4, serialize_jobs=0)
    step(core, fleet.SessionRequested(1, (10,), width=4))

    asked = step(core, fleet.SessionRequested(2, (11,), max_workers=1))
    ended = exits(core, drains(asked)[0][1])

    assert sorted(widths(ended)) == [("n0", 1, 1), ("n0", 3, 1)]
    core.check()


def test_nodes_own_width_is_part_of_the_jobs() -> None:
    """Where each worker has two cores anyway, four are two of these."""
    core = warm(8)
    step(core, fleet.NodeReported("n0", "n0", 8, "warm", cores_per_worker=2))

    actions = step(core, fleet.SessionRequested(1, (10,), width=4))

    assert widths(actions) == [("n0", 2, 2)]


def test_wide_workers_of_an_earlier_broker_keep_their_cores() -> None:
    """None is started on top of them."""
    core = warm(4)

    resumed = step(core, fleet.SessionRequested(7, (1,), resumed=(("old-1", "n0"),), width=3))

    assert widths(resumed) == [("n0", 1, 1)]
    core.check()
