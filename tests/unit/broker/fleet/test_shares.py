"""Max-min fair division of whole cores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.broker.fleet import shares
from services.broker.fleet.shares import Claim

CLAIMS = st.builds(Claim, st.integers(0, 40), st.floats(0.01, 100), st.floats(0, 10))


@pytest.mark.parametrize(
    ("core_count", "claims", "expected"),
    [
        (8, [Claim(8), Claim(8)], [4, 4]),
        (8, [Claim(8), Claim(1)], [7, 1]),
        (7, [Claim(7), Claim(7)], [4, 3]),
        (9, [Claim(9, weight=2.0), Claim(9)], [6, 3]),
        (9, [Claim(9, weight=100.0), Claim(9)], [8, 1]),
        (9, [Claim(0), Claim(3), Claim(2)], [0, 3, 2]),
        (10, [Claim(10), Claim(2), Claim(10)], [4, 2, 4]),
        (1, [Claim(1, served=1.0), Claim(1)], [0, 1]),
        (0, [Claim(5)], [0]),
        (3, [], []),
    ],
)
def test_cores_are_divided(core_count: int, claims: list[Claim], expected: list[int]) -> None:
    """By weight, never above a limit, at least one each, and by turns when there are too few."""
    assert shares.divide(core_count, claims) == expected


@given(st.integers(0, 60), st.lists(CLAIMS, max_size=8))
def test_division_is_max_min_fair(core_count: int, claims: list[Claim]) -> None:
    """No core is left while somebody wants it, and nobody has a core more than fair while another lacks."""
    found = shares.divide(core_count, claims)

    assert sum(found) == min(core_count, sum(claim.limit for claim in claims))
    assert all(0 <= share <= claim.limit for share, claim in zip(found, claims, strict=True))
    for share, claim in zip(found, claims, strict=True):
        if share < claim.limit:
            for other_share, other in zip(found, claims, strict=True):
                fair = (share + 1) / claim.weight * (1 + 1e-9)
                assert other_share <= 1 or (other_share - 1) / other.weight <= fair
