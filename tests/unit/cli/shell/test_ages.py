"""Times as people type them."""

from __future__ import annotations

import datetime

import pytest

from quakegrid.cli.shell import ages

ZONE = datetime.timezone(datetime.timedelta(hours=2))
NOW = datetime.datetime(2026, 3, 1, 14, 30, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("today", datetime.datetime(2026, 3, 1, tzinfo=ZONE)),
        ("Yesterday", datetime.datetime(2026, 2, 28, tzinfo=ZONE)),
        ("2d", datetime.datetime(2026, 2, 27, 14, 30, tzinfo=ZONE)),
        ("90 m", datetime.datetime(2026, 3, 1, 13, 0, tzinfo=ZONE)),
        ("2026-01-31", datetime.datetime(2026, 1, 31, tzinfo=ZONE)),
        ("2026-01-31T06:07", datetime.datetime(2026, 1, 31, 6, 7, tzinfo=ZONE)),
        ("2026-01-31T06:07:08", datetime.datetime(2026, 1, 31, 6, 7, 8, tzinfo=ZONE)),
    ],
)
def test_instants_are_days_times_or_how_long_ago(text: str, found: datetime.datetime) -> None:
    """In the zone of the person."""
    assert ages.instant(text, NOW) == found


@pytest.mark.parametrize("text", ["", "whenever", "2 fortnights", "2026-13-01", "-2d", "9999999d", "\u0661d"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With what is one."""
    with pytest.raises(ValueError, match="give one such as 90d"):
        ages.instant(text, NOW)


@pytest.mark.parametrize(("text", "days"), [("90d", 90), ("2w", 14), ("1y", 365), ("999999y", 365 * 500)])
def test_age_stays_in_the_calendar(text: str, days: int) -> None:
    """However large the number is."""
    assert ages.age(text).days == days
    assert ages.instant(text, NOW).year > 1000


def test_age_is_a_number_with_a_unit() -> None:
    """A bare number says nothing."""
    with pytest.raises(ValueError, match="is no age"):
        ages.age("90")
