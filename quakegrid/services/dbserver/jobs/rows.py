"""Changes to rows of the job table that more than one service makes.

All run in the writer's thread, inside a transaction.
"""

from __future__ import annotations

import datetime
import logging
import posixpath
from dataclasses import dataclass
from typing import Any

from quakegrid.errors import NotFoundError, StateError
from quakegrid.jobs import texts
from quakegrid.jobs.engine_values import RowValue
from quakegrid.jobs.row_ids import LARGEST_ID
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.deletions import marks
from quakegrid.services.dbserver.jobs import columns as job_columns
from quakegrid.services.dbserver.jobs import field_checks, state_reasons, transitions
from quakegrid.services.dbserver.jobs.transitions import Move
from quakegrid.services.dbserver.store.database import JOB_EVENTS, SqlSession

_CREATE = """INSERT INTO job (is_running, description, user_name, calculation_mode, ds_calc_dir,
 hazard_calculation_id, host, relevant, workflow_id) VALUES (1, ?x, ?x, ?x, ?x, ?x, ?x, ?x, ?x)"""
# A job that is being deleted is none any more.
_IS_ID = f"id=?x AND {marks.IS_PRESENT}"
logger = logging.getLogger("dbserver")


@dataclass(frozen=True, slots=True)
class NewJob:
    """The values that a job starts with."""

    data_dir: str
    calculation_mode: str
    description: str
    user_name: str
    hazard_calculation_id: int | None = None
    host: str | None = None
    workflow_id: int | None = None


def now_utc() -> datetime.datetime:
    """This instant."""
    return datetime.datetime.now(datetime.UTC)


def parse_state(text: Any) -> JobState:
    """A state by its name.

    Raises:
        UsageError: there is no such state.
    """
    field_checks.check_state("status", text)
    return JobState(text)


def get_row(session: SqlSession, job_id: int, *, columns: str = job_columns.WHOLE) -> RowValue:
    """The row of a job.

    Raises:
        NotFoundError: there is no such job.
    """
    row = session.first(f"SELECT {columns} FROM job WHERE {_IS_ID}", job_id)  # noqa: S608  ours
    if row is None:
        raise missing(job_id)
    return row


def get_state(session: SqlSession, job_id: int) -> JobState:
    """The state of a job.

    Raises:
        NotFoundError: there is no such job.
    """
    row = session.first(f"SELECT status FROM job WHERE {_IS_ID}", job_id)  # noqa: S608  ours
    if row is None:
        raise missing(job_id)
    return transitions.stored_state(row["status"])


def missing(job_id: int, user_name: str = "", job_count: int | None = None) -> NotFoundError:
    """The error for a job that is not there.

    Args:
        job_id: what was asked for; negative: the nth last one.
        user_name: whose jobs were looked at; empty: everybody's.
        job_count: how many jobs those are, if a negative id is beyond them.
    """
    whose = f" of {user_name}" if user_name else ""
    if job_id < 0 and job_count:
        jobs = "1 job" if job_count == 1 else f"{job_count} jobs"
        return NotFoundError(f"there is no job {job_id}: there are {jobs}{whose}; -{job_count} is the oldest")
    return NotFoundError(f"there is no job {job_id}{whose}; `quakegrid jobs list` shows those there are")


def find_row(
    session: SqlSession, job_id: int, user_name: str = "", *, columns: str = job_columns.WHOLE
) -> RowValue | None:
    """The row of a job, or None; a negative id is the nth last one of those that are not deleted.

    Args:
        session: to read with.
        job_id: any number; beyond the oldest job there is none.
        user_name: only this user's jobs; empty: everybody's.
        columns: SQL for what the row has.
    """
    if not -LARGEST_ID <= job_id <= LARGEST_ID:
        return None
    if job_id >= 0:
        row = session.first(f"SELECT {columns} FROM job WHERE {_IS_ID}", job_id)  # noqa: S608  ours
        return row if row and user_name in ("", row["user_name"]) else None
    return session.first(
        f"SELECT {columns} FROM job WHERE ?A AND status != 'deleted' "  # noqa: S608  ours
        "ORDER BY id DESC LIMIT 1 OFFSET ?x",
        {"user_name": user_name} if user_name else {},
        -job_id - 1,
    )


def count(session: SqlSession, user_name: str = "") -> int:
    """How many jobs there are (of a user), the deleted ones left out."""
    condition = {"user_name": user_name} if user_name else {}
    query = "SELECT count(*) FROM job WHERE ?A AND status != 'deleted'"
    return int(session.query(query, condition).rows[0][0])


def create(session: SqlSession, job: NewJob) -> int:
    """Insert a job in state created; its datastore is `<data_dir>/calc_<id>`.

    Raises:
        UsageError: a value does not fit its column.
    """
    field_checks.check_job(
        {
            "description": job.description,
            "user_name": job.user_name,
            "calculation_mode": job.calculation_mode,
            "hazard_calculation_id": job.hazard_calculation_id,
            "host": job.host,
            "workflow_id": job.workflow_id or None,
            "ds_calc_dir": job.data_dir,
        }
    )
    job_id = session.execute(
        _CREATE,
        job.description,
        job.user_name,
        job.calculation_mode,
        job.data_dir,
        job.hazard_calculation_id,
        job.host,
        int(job.calculation_mode != "workflow"),
        job.workflow_id or None,
    ).lastrowid
    assert job_id is not None
    session.touched_jobs.add(JOB_EVENTS)
    ds_calc_dir = posixpath.join(job.data_dir, f"calc_{job_id}")
    session.execute("UPDATE job SET ds_calc_dir=?x WHERE id=?x", ds_calc_dir, job_id)
    return job_id


def update(session: SqlSession, job_id: int, fields: dict[str, Any]) -> Move:
    """Set columns of a job; a new `status` only if the move is legal, the other columns in any case.

    Raises:
        UsageError: no columns, an unknown column, or a value that does not fit its column.
    """
    field_checks.check_job(fields)
    move = Move.MADE
    if "status" in fields:
        move = _judge(session, job_id, parse_state(fields["status"]))
    if move is Move.ILLEGAL:
        held_back = {"status", "is_running", "start_time", "stop_time"}
        fields = {key: value for key, value in fields.items() if key not in held_back}
    if fields:
        session.execute("UPDATE job SET ?D WHERE id=?x", fields, job_id)
    if move is Move.MADE and "status" in fields:
        state_reasons.store(session, job_id, parse_state(fields["status"]), "")
    session.touched_jobs.add(job_id)
    session.touched_jobs.add(JOB_EVENTS)
    return move


def transition(session: SqlSession, job_id: int, state: JobState, reason: str = "") -> bool:
    """Move a job to another state; False if it was there already.

    Raises:
        NotFoundError: there is no such job.
        StateError: the move is illegal.
    """
    current = get_state(session, job_id)
    match transitions.judge(current, state):
        case Move.ALREADY_THERE:
            return False
        case Move.ILLEGAL:
            raise StateError(f"job {job_id} is {current} and cannot become {state}")
    fields: dict[str, Any] = {"status": state, "is_running": not state.is_final}
    if state is JobState.EXECUTING:
        fields["start_time"] = now_utc()
    elif state in (JobState.COMPLETE, JobState.FAILED, JobState.ABORTED) and current is not JobState.SHARED:
        fields["stop_time"] = now_utc()
    session.execute("UPDATE job SET ?D WHERE id=?x", fields, job_id)
    state_reasons.store(session, job_id, state, reason)
    level = {JobState.FAILED: "ERROR", JobState.ABORTED: "WARNING"}.get(state)
    if reason and level:
        message = texts.shorten(reason, field_checks.LONGEST_TEXT)
        append_log(session, job_id, [(now_utc(), level, "quakegrid", message)])
    session.touched_jobs.add(job_id)
    session.touched_jobs.add(JOB_EVENTS)
    return True


def check_owner(session: SqlSession, job_id: int, user_name: str | None) -> None:
    """Refuse a user who does not own a job.

    Args:
        session: to read with.
        job_id: which job.
        user_name: who asks; None for somebody who may do it to everybody's jobs.
    Raises:
        NotFoundError: there is no such job.
        StateError: it belongs to another user.
    """
    owner = get_row(session, job_id)["user_name"]
    if user_name is not None and owner != user_name:
        raise StateError(f"job {job_id} belongs to {owner} and you are {user_name or 'nobody'}")


def check_idle(session: SqlSession, job_id: int) -> None:
    """Refuse a job that runs or waits for its turn.

    Raises:
        NotFoundError: there is no such job.
        StateError: the job runs or waits.
    """
    state = get_state(session, job_id)
    if state in (JobState.SUBMITTED, JobState.EXECUTING):
        raise StateError(f"job {job_id} is {state}; abort it first with `quakegrid abort {job_id}`")


def check_ended(session: SqlSession, job_id: int) -> None:
    """Refuse a job that has not ended.

    Raises:
        NotFoundError: there is no such job.
        StateError: the job has not ended.
    """
    state = get_state(session, job_id)
    if not state.is_final:
        raise StateError(f"job {job_id} is {state}; only a complete job can be shared")


def append_log(
    session: SqlSession, job_id: int, lines: list[tuple[datetime.datetime, str, str, str]]
) -> None:
    """Store log lines: time, level, process, message."""
    fields = ("job_id", "timestamp", "level", "process", "message")
    session.insert_all("log", fields, [(job_id, *line) for line in lines])
    session.touched_jobs.add(job_id)


def check_deletable(
    session: SqlSession, job_id: int, user_name: str | None, *, is_forced: bool = False
) -> str:
    """Refuse what cannot be deleted; returns the job's datastore, without its extension.

    Args:
        session: to read with.
        job_id: which job.
        user_name: who asks; None for somebody who may delete everybody's jobs.
        is_forced: whether other jobs may depend on it.
    Raises:
        NotFoundError: there is no such job.
        StateError: other jobs depend on it, or it belongs to another user.
    """
    if not is_forced:
        query = "SELECT id FROM job WHERE hazard_calculation_id=?x AND status != 'deleted'"
        dependents = [row["id"] for row in session.query(query, job_id)]
        if dependents:
            raise StateError(
                f"Cannot delete calculation {job_id}: there are calculations dependent from it: {dependents}"
            )
    query = f"SELECT user_name, ds_calc_dir FROM job WHERE {_IS_ID}"  # noqa: S608  ours
    row = session.first(query, job_id)
    if row is None:
        raise NotFoundError(f"Cannot delete calculation {job_id}: ID does not exist")
    if user_name is not None and row["user_name"] != user_name:
        raise StateError(
            f"Cannot delete calculation {job_id}: it belongs to {row['user_name']} and you are {user_name}"
        )
    return str(row["ds_calc_dir"])


def delete(session: SqlSession, job_id: int, user_name: str | None, *, is_forced: bool = False) -> list[str]:
    """Delete a job with all that hangs on it (`marks.delete`); returns the paths of its datastore files.

    A path that somebody gave the job and that is not `.../calc_<id>` is left out: its files may be another
    job's.

    Raises:
        NotFoundError: there is no such job.
        StateError: other jobs depend on it, or it belongs to another user.
    """
    store = check_deletable(session, job_id, user_name, is_forced=is_forced)
    marks.delete(session, [job_id])
    directory, name = posixpath.split(store)
    if name != f"calc_{job_id}" or not posixpath.isabs(directory):
        logger.warning("files_left job=%s reason=%s", job_id, f"its datastore is named {store!r}")
        return []
    return [f"{store}.hdf5", f"{store}_tmp.hdf5"]


def _judge(session: SqlSession, job_id: int, wanted: JobState) -> Move:
    """As `transitions.judge`. For a job that does not exist every move is legal, and has no effect."""
    row = session.first("SELECT status FROM job WHERE id=?x", job_id)
    return Move.MADE if row is None else transitions.judge(transitions.stored_state(row["status"]), wanted)
