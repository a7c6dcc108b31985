"""Times as people type them: 90d, yesterday, 2026-01-31. Pure: the time is given."""

from __future__ import annotations

import datetime
import re

_AGE = re.compile(r"(\d{1,6})\s*(m|h|d|w|y)", re.ASCII)
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
_DAYS_AGO = {"today": 0, "yesterday": 1}
_FORMATS = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S")
HELP = "such as 90d, yesterday or 2026-01-31"
# Farther back than any calculation; larger ones leave the calendar.
_MOST = datetime.timedelta(days=365 * 500)


def age(text: str) -> datetime.timedelta:
    """An age: minutes, hours, days, weeks or years, such as 90d.

    Raises:
        ValueError: it is none.
    """
    found = _AGE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is no age: give a number and m, h, d, w or y, such as 90d")
    return min(_MOST, datetime.timedelta(seconds=int(found[1]) * _SECONDS[found[2]]))


def instant(text: str, now_time: datetime.datetime) -> datetime.datetime:
    """A day (its first moment), a time, or how long ago.

    Args:
        text: as typed.
        now_time: the time, in the zone in which a person thinks.
    Raises:
        ValueError: it is none of these.
    """
    words = text.strip().lower()
    if words in _DAYS_AGO:
        day = now_time - datetime.timedelta(days=_DAYS_AGO[words])
        return day.replace(hour=0, minute=0, second=0, microsecond=0)
    if _AGE.fullmatch(words):
        return now_time - age(words)
    for form in _FORMATS:
        try:
            return datetime.datetime.strptime(text.strip(), form).replace(tzinfo=now_time.tzinfo)
        except ValueError:
            continue
    raise ValueError(f"{text!r} is no time: give one {HELP}")
