"""Throughput under faults counts work by what it costs undisturbed."""

from __future__ import annotations

import pytest

from tests.faults.harness.throughput import Span, measure

CALM = [Span("sums", 0, 0, 4), Span("blocks", 0, 4, 10), Span("case", 1, 0, 10)]


def test_faults_that_cost_nothing_give_one() -> None:
    """Whatever mix of programs came after."""
    after = [
        Span("sums", 0, 10, 14),
        Span("sums", 0, 14, 18),
        Span("case", 1, 10, 20),
        Span("sums", 0, 18, 22),
    ]

    assert measure([*CALM, *after], 10, 20).ratio == pytest.approx(1.0)


def test_slower_programs_and_failed_ones_count() -> None:
    """One row at half speed, and in the other a program that failed."""
    after = [Span("sums", 0, 10, 18), Span("sums", 0, 18, 26), Span("case", 1, 10, 26, is_done=False)]

    found = measure([*CALM, *after], 10, 26)

    assert found.ratio == pytest.approx(8 / 32)
    assert found.disturbed_s == {"sums": 8.0}
    assert "SHORT" in str(found)


def test_program_killed_on_purpose_counts_once_with_all_its_time() -> None:
    """One row at half speed, and in the other a program that was killed after a while, and went on."""
    after = [Span("sums", 0, 10, 18), Span("sums", 0, 18, 26), Span("case", 1, 10, 26)]

    assert measure([*CALM, *after], 10, 26).ratio == pytest.approx((8 + 10) / (16 + 16))


def test_programs_on_the_border_count_by_their_part() -> None:
    """Half of it before the first fault, and half of it after the end."""
    border = [Span("sums", 0, 10, 18), Span("case", 1, 10, 20), Span("sums", 0, 18, 22)]

    found = measure([*CALM, *border], 14, 20)

    assert found.undisturbed_s == {"sums": 4.0, "blocks": 6.0, "case": 10.0}
    assert found.ratio == pytest.approx((2 + 2 + 6) / 12)
    assert "SHORT" not in str(found)


def test_row_that_comes_less_far_than_the_others_is_told() -> None:
    """Two rows at full speed, and one that got a fifth of its part; three times as much would do."""
    calm = [Span("sums", row, 0, 4) for row in range(3)]
    fast = [Span("sums", row, 10 + start, 14 + start) for row in range(2) for start in (0, 4, 8, 12, 16)]

    starved = measure([*calm, *fast, Span("sums", 2, 10, 30)], 10, 30)
    late = [Span("sums", 2, 10, 16), Span("sums", 2, 16, 22), Span("sums", 2, 22, 30)]
    served = measure([*calm, *fast, *late], 10, 30)

    assert starved.row_ratios == pytest.approx({0: 1.0, 1: 1.0, 2: 0.2})
    assert "3 sessions alike, 20% to 100%, SHORT for one of them" in str(starved)
    assert served.row_ratios[2] == pytest.approx(0.6)
    assert "SHORT" not in str(served)


def test_row_of_other_work_is_not_compared() -> None:
    """What one calculation took undisturbed says too little of its row."""
    calm = [*(Span("sums", row, 0, 4) for row in range(2)), Span("case", 2, 0, 10)]
    after = [*(Span("sums", row, 10, 14) for row in range(2)), Span("case", 2, 10, 40)]

    found = measure([*calm, *after], 10, 14, ["sums"])

    assert found.row_ratios == pytest.approx({0: 1.0, 1: 1.0})
    assert "SHORT for one" not in str(found)
