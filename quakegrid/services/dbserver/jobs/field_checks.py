"""Checks of values where they enter the database: their kinds, lengths and ranges. Pure.

SQLite would store a value of a wrong kind without an error, and then every list with the job would fail.
"""

from __future__ import annotations

import datetime
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from quakegrid.errors import UsageError
from quakegrid.jobs.row_ids import LARGEST_ID
from quakegrid.jobs.states import JobState

# In characters; each takes at most four bytes.
LONGEST_TEXT = 1 << 20
LONGEST_NAME = 1000
LONGEST_PATH = 4096
INT64_LIMIT = 1 << 63

Check = Callable[[str, Any], Any]


def check_text(name: str, value: Any, longest: int = LONGEST_TEXT) -> None:
    """Refuse a value that is no text, or too long a text.

    Raises:
        UsageError: with the name and what is wrong.
    """
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text, not {_show(value)}")
    if len(value) > longest:
        raise UsageError(f"{name} has {len(value)} characters; at most {longest} are allowed")


def check_name(name: str, value: Any) -> None:
    """Check a short text, as `check_text` does."""
    check_text(name, value, LONGEST_NAME)


def check_path(name: str, value: Any) -> None:
    """Check a path, as `check_text` does."""
    check_text(name, value, LONGEST_PATH)


def check_integer(name: str, value: Any) -> None:
    """Refuse a value that is no integer of 64 bits.

    Raises:
        UsageError: with the name and what is wrong.
    """
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or not -INT64_LIMIT <= value < INT64_LIMIT:
        raise UsageError(f"{name} must be an integer of at most 64 bits, not {_show(value)}")


def check_id(name: str, value: Any) -> None:
    """Refuse a value that is no id of a job.

    Raises:
        UsageError: with the name and what is wrong.
    """
    check_integer(name, value)
    if not 0 < value <= LARGEST_ID:
        raise UsageError(f"{name} is {value}; ids of jobs are 1 to {LARGEST_ID}")


def check_real(name: str, value: Any) -> None:
    """Refuse a value that is no number.

    Raises:
        UsageError: with the name and what is wrong.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UsageError(f"{name} must be a number, not {_show(value)}")


def check_flag(name: str, value: Any) -> None:
    """Refuse a value that is neither true nor false.

    Raises:
        UsageError: with the name and what is wrong.
    """
    if not isinstance(value, numbers.Integral) or value not in (0, 1):
        raise UsageError(f"{name} must be true or false, not {_show(value)}")


def check_time(name: str, value: Any) -> None:
    """Refuse a value that is no time: an instant, or its text in ISO 8601.

    Raises:
        UsageError: with the name and what is wrong.
    """
    try:
        time = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(value)
        if time.tzinfo is not None:
            time.astimezone(datetime.UTC)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} must be a time, not {_show(value)}") from None


def check_state(name: str, value: Any) -> None:
    """Refuse a value that is no state of a job.

    Raises:
        UsageError: with the states there are.
    """
    try:
        JobState(value)
    except ValueError:
        raise UsageError(
            f"{name} is {_show(value)}, no state of a job; give one of {', '.join(JobState)}"
        ) from None


def _optional(check: Check) -> Check:
    """A check that lets None pass."""
    return lambda name, value: None if value is None else check(name, value)


# The columns of the job table that may be set.
JOB_COLUMNS: Mapping[str, Check] = {
    "description": check_text,
    "user_name": check_name,
    "calculation_mode": check_name,
    "hazard_calculation_id": _optional(check_id),
    "status": check_state,
    "is_running": check_flag,
    "start_time": check_time,
    "stop_time": _optional(check_time),
    "relevant": check_flag,
    "ds_calc_dir": check_path,
    "pid": check_integer,
    "size_mb": _optional(check_real),
    "host": _optional(check_name),
    "workflow_id": _optional(check_id),
}


def check_job(fields: Mapping[str, Any]) -> None:
    """Check values of columns of the job table.

    Raises:
        UsageError: no columns, an unknown column, or a value that does not fit its column.
    """
    if not fields or not fields.keys() <= JOB_COLUMNS.keys():
        unknown = sorted(fields.keys() - JOB_COLUMNS.keys())
        raise UsageError(f"a job has no columns {unknown}; give some of {sorted(JOB_COLUMNS)}")
    for name, value in fields.items():
        JOB_COLUMNS[name](name, value)


def check_output(ds_key: Any, display_name: Any, size_mb: Any) -> None:
    """Check an output of a job.

    Raises:
        UsageError: with what is wrong.
    """
    check_name("ds_key", ds_key)
    check_name("display_name", display_name)
    if size_mb is not None:
        check_real("size_mb", size_mb)


def check_tag(name: Any) -> None:
    """Check the name of a tag.

    Raises:
        UsageError: with what is wrong.
    """
    check_name("the name of a tag", name)
    if not name:
        raise UsageError("a tag needs a name")


def _show(value: Any) -> str:
    """A value in a message, cut."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"
