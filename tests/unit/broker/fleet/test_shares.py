"""Max-min fair division of whole cores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quakegrid.services.broker.fleet.placing import shares
from quakegrid.services.broker.fleet.placing.shares import Demand

DEMANDS = st.builds(Demand, st.integers(0, 40), st.floats(0.01, 100), st.floats(0, 10))


@pytest.mark.parametrize(
    ("core_count", "demands", "expected"),
    [
        (8, [Demand(8), Demand(8)], [4, 4]),
        (8, [Demand(8), Demand(1)], [7, 1]),
        (7, [Demand(7), Demand(7)], [4, 3]),
        (9, [Demand(9, weight=2.0), Demand(9)], [6, 3]),
        (9, [Demand(9, weight=100.0), Demand(9)], [8, 1]),
        (9, [Demand(0), Demand(3), Demand(2)], [0, 3, 2]),
        (10, [Demand(10), Demand(2), Demand(10)], [4, 2, 4]),
        (1, [Demand(1, served=1.0), Demand(1)], [0, 1]),
        (0, [Demand(5)], [0]),
        (3, [], []),
    ],
)
def test_cores_are_divided(core_count: int, demands: list[Demand], expected: list[int]) -> None:
    """By weight, never above a limit, at least one each, and by turns when there are too few."""
    assert shares.divide(core_count, demands) == expected


@given(st.integers(0, 60), st.lists(DEMANDS, max_size=8))
def test_division_is_max_min_fair(core_count: int, demands: list[Demand]) -> None:
    """No core is left while somebody wants it, and nobody has a core more than fair while another lacks."""
    found = shares.divide(core_count, demands)

    assert sum(found) == min(core_count, sum(demand.limit for demand in demands))
    assert all(0 <= share <= demand.limit for share, demand in zip(found, demands, strict=True))
    for share, demand in zip(found, demands, strict=True):
        if share < demand.limit:
            for other_share, other in zip(found, demands, strict=True):
                fair = (share + 1) / demand.weight * (1 + 1e-9)
                assert other_share <= 1 or (other_share - 1) / other.weight <= fair
