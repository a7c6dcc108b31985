"""How many cores each session should have when some are stuck and some sessions have never had a task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakegrid.services.broker.fleet.cores import Kind
from quakegrid.services.broker.fleet.placing import targets
from quakegrid.services.broker.fleet.placing.shares import Demand
from quakegrid.services.broker.fleet.placing.targets import Wish

WISHES = st.builds(
    Wish,
    st.builds(Demand, st.integers(0, 20), st.floats(0.1, 10), st.floats(0, 5)),
    st.integers(0, 6),
    st.booleans(),
)


@pytest.mark.parametrize(
    ("core_count", "wishes", "expected"),
    [
        # What is stuck counts as part of its session's share.
        (4, [Wish(Demand(4), stuck_count=2), Wish(Demand(4))], [2, 2]),
        # More than a share cannot be taken away; the others divide the rest.
        (4, [Wish(Demand(4), stuck_count=3), Wish(Demand(4))], [3, 1]),
        (
            2,
            [Wish(Demand(2, served=3.0), stuck_count=1), Wish(Demand(2, served=1.0)), Wish(Demand(2))],
            [1, 0, 1],
        ),
        # A session that has never had a task gets what is left.
        (8, [Wish(Demand(8), is_idle=True), Wish(Demand(8))], [0, 8]),
        (8, [Wish(Demand(8), is_idle=True), Wish(Demand(3))], [5, 3]),
        (8, [Wish(Demand(8), is_idle=True), Wish(Demand(8), is_idle=True)], [4, 4]),
        (1, [Wish(Demand(2), stuck_count=2), Wish(Demand(2))], [2, 0]),
        (0, [], []),
    ],
)
def test_cores_are_divided(core_count: int, wishes: list[Wish], expected: list[int]) -> None:
    """Fairly, with what cannot be changed."""
    assert targets.divide(core_count, wishes) == expected


@given(st.integers(0, 30), st.lists(WISHES, max_size=6))
def test_division_promises_no_core_that_is_stuck_elsewhere(core_count: int, wishes: list[Wish]) -> None:
    """Each session has at least what is stuck in it; together they have no more than there is."""
    found = targets.divide(core_count, wishes)

    stuck_count = sum(wish.stuck_count for wish in wishes)
    assert all(target >= wish.stuck_count for target, wish in zip(found, wishes, strict=True))
    assert sum(found) <= max(core_count, stuck_count)


OLD, NEW = frozenset({1}), frozenset[int]()
FITS_ALL = frozenset({OLD, NEW})


@pytest.mark.parametrize(
    ("core_count", "wishes", "fits", "expected"),
    [
        # All leave the old nodes out: they share the new ones, and none gets what is left by the others.
        (10, [Wish(Demand(10))] * 3, [frozenset({NEW})] * 3, [2, 2, 2]),
        # Two share two cores of the new nodes, the third one has all others.
        (10, [Wish(Demand(10))] * 3, [frozenset({OLD})] * 2 + [FITS_ALL], [2, 2, 6]),
        # Who can use fewer cores than its share leaves the rest to others.
        (10, [Wish(Demand(10)), Wish(Demand(1))], [frozenset({OLD}), FITS_ALL], [4, 1]),
        # There is room for all.
        (10, [Wish(Demand(10))] * 2, [FITS_ALL, frozenset({NEW})], [5, 5]),
        # Nothing fits a session.
        (10, [Wish(Demand(0)), Wish(Demand(10))], [frozenset(), FITS_ALL], [0, 10]),
        # Each has its own nodes.
        (10, [Wish(Demand(10))] * 2, [frozenset({OLD}), frozenset({NEW})], [4, 6]),
    ],
)
def test_sessions_divide_the_cores_that_fit_them(
    core_count: int, wishes: list[Wish], fits: list[frozenset[Kind]], expected: list[int]
) -> None:
    """No session starves because others were promised the nodes that fit it."""
    assert targets.divide_by_kind(core_count, wishes, {OLD: 4, NEW: 6}, fits) == expected


def test_many_sets_of_kinds_cost_few_divisions() -> None:
    """The sets with fewest cores count, the others are not looked at."""
    kinds = [frozenset({number}) for number in range(100)]
    fits = [frozenset(kinds[: number + 1]) for number in range(100)]

    found = targets.divide_by_kind(200, [Wish(Demand(200))] * 100, dict.fromkeys(kinds, 2), fits)

    assert sum(found) == 200
    assert min(found) == 2
