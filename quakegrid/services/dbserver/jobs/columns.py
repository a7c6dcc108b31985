"""The columns of a job's row for a message, in SQL. Every text is cut, so that no row is too large to send.

Rows of an older database may hold texts of any length. The engine reads with `SELECT *` instead, so that it
gets what it stored.
"""

from __future__ import annotations

from quakegrid.services.dbserver.jobs import field_checks

# Characters of each text in a list. The largest page, with every text of that length, has 40 MB.
LONGEST_LISTED = 1000
_REASON = "(SELECT reason FROM quakegrid_state_reason WHERE job_id = job.id)"
# Of the jobs that were started again: column of the table, and name in a message.
_RESUMPTIONS = {"count": "resume_count", "replayed_count": "replayed_count"}


def cut(expression: str, longest: int) -> str:
    """SQL for a text with at most so many characters; a text that was cut ends with "…"."""
    return (
        f"CASE WHEN length({expression}) > {longest} "
        f"THEN substr({expression}, 1, {longest - 1}) || '…' ELSE {expression} END"
    )


def _columns(longest_description: int) -> str:
    longest = {
        "description": longest_description,
        "user_name": LONGEST_LISTED,
        "calculation_mode": LONGEST_LISTED,
        "status": LONGEST_LISTED,
        "host": LONGEST_LISTED,
        "ds_calc_dir": field_checks.LONGEST_PATH,
    }
    texts = [f"{cut(f'job.{name}', length)} AS {name}" for name, length in longest.items()]
    times = ("start_time", "stop_time")
    numbers = ("id", "hazard_calculation_id", "is_running", "relevant", "pid", "size_mb")
    reason = f"{cut(_REASON, LONGEST_LISTED)} AS state_reason"
    resumptions = [
        f"coalesce((SELECT {column} FROM quakegrid_resumption WHERE job_id = job.id), 0) AS {name}"  # noqa: S608 - names of ours
        for column, name in _RESUMPTIONS.items()
    ]
    return ", ".join([*(f"job.{name}" for name in numbers + times), *texts, reason, *resumptions])


# The columns in a message with one job.
WHOLE = _columns(field_checks.LONGEST_TEXT)
# The columns in a message with many jobs.
LISTED = _columns(LONGEST_LISTED)
