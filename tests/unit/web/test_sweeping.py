"""When inputs that people sent are over."""

from __future__ import annotations

import datetime

import pytest

from quakegrid.services.web.uploads import sweeping

NOW = datetime.datetime(2026, 5, 20, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("is_running", "days_ago", "keep_days", "is_over"),
    [
        (True, None, 7, False),
        (False, 6.9, 7, False),
        (False, 7.1, 7, True),
        (False, 1000, 0, False),
        (False, None, 7, False),
    ],
)
def test_inputs_go_some_days_after_the_end(
    is_running: bool, days_ago: float | None, keep_days: int, is_over: bool
) -> None:
    """Not while it runs; with 0 days never."""
    stop_time = None if days_ago is None else NOW - datetime.timedelta(days=days_ago)

    assert sweeping.is_over(is_running, stop_time, keep_days, NOW) is is_over


def test_time_without_a_zone_is_utc() -> None:
    """As upstream's rows have it."""
    stop_time = (NOW - datetime.timedelta(days=8)).replace(tzinfo=None)

    assert sweeping.is_over(False, stop_time, 7, NOW)
