"""Reopens a job that has ended badly, so that it can run again under its id.

This is no move of the table in `transitions.py`: what its first try has left in the database goes with it.
"""

from __future__ import annotations

from quakegrid.errors import StateError, UsageError
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.store.database import JOB_EVENTS, SqlSession

_REOPENED = (JobState.FAILED, JobState.ABORTED)
# Of the first try: a driver that is dead holds it no more, and the new one inserts the other rows again.
_LEFTOVERS = (
    "DELETE FROM output WHERE oq_job_id=?x",
    "DELETE FROM checksum WHERE job_id=?x",
    "DELETE FROM quakegrid_lease WHERE job_id=?x",
    "DELETE FROM quakegrid_state_reason WHERE job_id=?x",
)
_COUNT = (
    "INSERT INTO quakegrid_resumption (job_id, count, replayed_count) VALUES (?x, 1, ?x) "
    "ON CONFLICT (job_id) DO UPDATE SET count = count + 1, replayed_count = excluded.replayed_count"
)


def reopen(session: SqlSession, job_id: int, replayed_count: int) -> None:
    """Make a job submitted that failed or was aborted, or whose driver died before it held the job.

    Args:
        session: to write with.
        job_id: of the job.
        replayed_count: tasks whose outcomes are taken from its journal.
    Raises:
        UsageError: there cannot be so many.
        NotFoundError: there is no such job.
        StateError: it is in another state.
    """
    if replayed_count < 0:
        raise UsageError(f"{replayed_count} is no number of tasks")
    state = job_rows.get_state(session, job_id)
    is_waiting = state in (JobState.CREATED, JobState.SUBMITTED)
    is_held = session.first("SELECT 1 FROM quakegrid_lease WHERE job_id=?x", job_id) is not None
    if state not in _REOPENED and (is_held or not is_waiting):
        raise StateError(f"job {job_id} is {state}; only a job that failed or was aborted can be resumed")
    for statement in _LEFTOVERS:
        session.execute(statement, job_id)
    fields = {"status": JobState.SUBMITTED, "is_running": True, "stop_time": None, "size_mb": None}
    session.execute("UPDATE job SET ?D WHERE id=?x", fields, job_id)
    session.execute(_COUNT, job_id, replayed_count)
    session.touched_jobs |= {job_id, JOB_EVENTS}
