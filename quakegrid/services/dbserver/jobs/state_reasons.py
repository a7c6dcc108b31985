"""Why a job failed or was aborted: one line for people beside the job's row.

Whoever ends a job may give the reason. The engine gives none when it fails. Then the reason is the last line
of the job's last error, such as "ValueError: the site is outside the model".
"""

from __future__ import annotations

from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.store.database import SqlSession

MAX_LENGTH = 1000  # characters
# The same condition as in the index `quakegrid_log_error`.
LAST_ERROR = (
    "SELECT message FROM log WHERE job_id=?x AND level IN ('ERROR', 'CRITICAL') ORDER BY id DESC LIMIT 1"
)
_STORE = (
    "INSERT INTO quakegrid_state_reason (job_id, reason) VALUES (?x, ?x) "
    "ON CONFLICT (job_id) DO UPDATE SET reason = excluded.reason"
)


def store(session: SqlSession, job_id: int, state: JobState, reason: str) -> None:
    """Store why a job is in `state`; only failed and aborted jobs have a reason.

    Args:
        session: of the writer, in the transaction that moves the job.
        job_id: a job that exists.
        state: where it is moved.
        reason: why. If it is empty, a failed job takes the reason from its log.
    """
    if state not in (JobState.FAILED, JobState.ABORTED):
        return
    if not reason and state is JobState.FAILED:
        row = session.first(LAST_ERROR, job_id)
        reason = last_line(str(row["message"])) if row else ""
    if reason:
        session.execute(_STORE, job_id, reason[:MAX_LENGTH])


def last_line(text: str) -> str:
    """The last line of a text that is not empty. In a traceback this is the exception with its message."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
