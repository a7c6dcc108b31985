"""Sizes of chunks: what is learnt, and what is chosen from it."""

from __future__ import annotations

import pytest

from quakegrid.sdk import chunking
from quakegrid.sdk.chunking import Chunking


def test_unknown_call_fills_a_chunk() -> None:
    """Nothing is known, so nothing travels together."""
    assert Chunking(2).cost_s("f") == chunking.TARGET_S
    assert not Chunking(2).is_known("f")


def test_estimates_rise_at_once_and_fall_slowly() -> None:
    """A call that was long once may be long again."""
    sizes = Chunking(2)
    sizes.learn("f", 0.010, 10)
    first = sizes.cost_s("f")
    sizes.learn("f", 1.0, 10)
    second = sizes.cost_s("f")

    sizes.learn("f", 0.010, 10)

    assert first == pytest.approx(0.001, rel=0.01)
    assert second == pytest.approx(0.1, rel=0.01)
    assert 0.06 < sizes.cost_s("f") < second


def test_kinds_of_calls_are_told_apart() -> None:
    """A long function makes another one no longer."""
    sizes = Chunking(2)
    sizes.learn("long", 10.0, 1)
    sizes.learn("short", 0.001, 100)

    assert sizes.cost_s("short") < 1e-4 < sizes.cost_s("long")


@pytest.mark.parametrize(("queued_count", "limit"), [(0, 1), (7, 1), (80, 20), (10**6, chunking.MAX_CALLS)])
def test_tail_is_divided_among_the_workers(queued_count: int, limit: int) -> None:
    """A chunk is half a worker's share of what is left at most."""
    assert Chunking(2).call_limit(queued_count) == limit


def test_workers_that_came_later_count() -> None:
    """The fleet may grow under an executor; it never counts fewer than it was promised."""
    sizes = Chunking(0)
    before = sizes.window
    for name in ("a", "b", "a", "c"):
        sizes.see_worker(name)

    assert before == chunking.CHUNKS_PER_WORKER
    assert sizes.window == 3 * chunking.CHUNKS_PER_WORKER
