"""The shapes of upstream's answers, made of rows. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from quakegrid.jobs.values import LogLine

TIME_ZONE = "UTC"
# Upstream shows hundredths of a second.
LOG_TIME_CHARACTERS = 22
# Columns that SQLite has as numbers, and upstream as booleans.
BOOLEANS = ("is_running", "relevant")


def calculation(row: Sequence[Any], base_url: str) -> dict[str, Any]:
    """A line of `/v1/calc/list`.

    Args:
        row: of upstream's `get_calcs`.
        base_url: of this service, with a slash at its end.
    """
    job_id, owner, status, mode, is_running, description, _pid, parent_id, size_mb, *rest = row
    _host, start_time, relevant, tags = rest
    return {
        "id": job_id,
        "owner": owner,
        "calculation_mode": mode,
        "status": status,
        "is_running": bool(is_running),
        "description": description,
        "url": f"{base_url}v1/calc/{job_id}",
        "parent_id": parent_id,
        "abortable": bool(is_running),
        "size_mb": size_mb,
        "start_time": f"{_time(start_time)} {TIME_ZONE}",
        "relevant": bool(relevant),
        "tags": tags,
    }


def _time(value: Any) -> str:
    return f"{value:%Y-%m-%d, %H:%M:%S}" if isinstance(value, datetime.datetime) else str(value)


def row_dict(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of upstream's `calc_info` as JSON has it."""
    return {name: _json_value(name, value) for name, value in row.items()}


def _json_value(name: str, value: Any) -> Any:
    if name in BOOLEANS:
        return bool(value)
    return str(value) if isinstance(value, datetime.datetime) else value


def log_line(line: LogLine) -> list[str]:
    """A line of `/v1/calc/N/log/A:B`: time, level, process, message."""
    time = line.log_time.astimezone(datetime.UTC).replace(tzinfo=None)
    return [time.isoformat()[:LOG_TIME_CHARACTERS], line.level, line.process, line.message]
