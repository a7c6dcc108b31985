"""Deleting jobs in one short transaction, however many rows they have.

Jobs with few rows are deleted at once. Others are marked: they have a row in `quakegrid_deletion`, and from
then on they do not exist for any call. Plain SQL sees their rows in state deleted until the reaper has
removed them. What must not outlive the deletion goes with the mark: checksums and tags, which other jobs may
need, and references to other jobs, so that no row takes others with it.

The functions run in the writer's thread, inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from quakegrid.services.dbserver.store.database import DELETIONS, JOB_EVENTS, SqlSession

# Rows of the jobs and of all that hangs on them; so many take a few milliseconds.
MOST_AT_ONCE = 500
# Jobs that one transaction marks; the reaper marks the rest before it removes anything.
MOST_MARKED = 500
# A condition of a query on `job`.
IS_PRESENT = "NOT EXISTS (SELECT 1 FROM quakegrid_deletion WHERE job_id = job.id)"
# What a job may have many rows of, and the column that refers to it.
_PARTS = (("log", "job_id"), ("output", "oq_job_id"), ("performance", "job_id"))
# SQLite would delete those that start from a job, and those of a workflow, with it.
_ENLIST = """INSERT OR IGNORE INTO quakegrid_deletion (job_id)
WITH RECURSIVE doomed(id) AS (SELECT id FROM job WHERE id IN (?X) UNION
 SELECT job.id FROM job JOIN doomed ON job.hazard_calculation_id = doomed.id OR job.workflow_id = doomed.id)
SELECT id FROM doomed"""
_COUNT_PRESENT = f"SELECT count(*) FROM job WHERE id IN (?X) AND {IS_PRESENT}"  # noqa: S608  ours
_FRESH = "SELECT job_id FROM quakegrid_deletion WHERE NOT is_marked"


def delete(session: SqlSession, job_ids: Iterable[int]) -> int:
    """Delete jobs, and those that depend on them; returns how many of `job_ids` there were."""
    wanted = list(job_ids)
    count = int(session.query(_COUNT_PRESENT, wanted).rows[0][0])
    if not count:
        return 0
    session.execute(_ENLIST, wanted)
    session.touched_jobs.add(JOB_EVENTS)
    enlisted = [job_id for (job_id,) in session.query(f"{_FRESH} LIMIT ?x", MOST_AT_ONCE + 1).rows]
    if _are_few(session, enlisted):
        session.touched_jobs.update(enlisted)
        session.execute(f"DELETE FROM job WHERE id IN ({_FRESH})")  # noqa: S608  ours
    else:
        session.touched_jobs.add(DELETIONS)
        session.marked_jobs.update(wanted)
        mark(session, MOST_MARKED)
    return count


def is_marked(session: SqlSession, job_id: int) -> bool:
    """Whether a job is being deleted."""
    return session.first("SELECT 1 FROM quakegrid_deletion WHERE job_id=?x", job_id) is not None


def left_count(session: SqlSession, job_ids: Iterable[int]) -> int:
    """How many of these jobs are still being deleted."""
    query = "SELECT count(*) FROM quakegrid_deletion WHERE job_id IN (?X)"
    return int(session.query(query, list(job_ids)).rows[0][0])


def mark(session: SqlSession, most: int) -> int:
    """Mark at most so many of the jobs that are to be deleted; returns how many."""
    job_ids = [job_id for (job_id,) in session.query(f"{_FRESH} LIMIT ?x", most).rows]
    if not job_ids:
        return 0
    session.execute(
        "UPDATE job SET status='deleted', is_running=0, hazard_calculation_id=NULL, workflow_id=NULL "
        "WHERE id IN (?X)",
        job_ids,
    )
    for table in ("checksum", "job_tag"):
        session.execute(f"DELETE FROM {table} WHERE job_id IN (?X)", job_ids)  # noqa: S608  ours
    session.execute("UPDATE quakegrid_deletion SET is_marked=1 WHERE job_id IN (?X)", job_ids)
    session.touched_jobs.update(job_ids, {JOB_EVENTS})
    return len(job_ids)


def remove(session: SqlSession, most_rows: int) -> int:
    """Remove at most so many rows of marked jobs; returns how many, 0 if none are left.

    All jobs are marked before the first row is removed.
    """
    if count := mark(session, min(most_rows, MOST_MARKED)):
        return count
    count = 0
    while count < most_rows:
        # Dependent jobs are mostly the newer ones, so they are gone before what they depend on.
        row = session.first("SELECT max(job_id) AS id FROM quakegrid_deletion")
        if row is None or row["id"] is None:
            break
        count += _remove_parts(session, row["id"], most_rows - count)
        if count < most_rows:
            session.execute("DELETE FROM job WHERE id=?x", row["id"])  # and the mark with it
            session.touched_jobs |= {row["id"], JOB_EVENTS}
            count += 1
    return count


def _remove_parts(session: SqlSession, job_id: int, most_rows: int) -> int:
    count = 0
    for table, column in _PARTS:
        left = most_rows - count
        chosen = f"SELECT id FROM {table} WHERE {column}=?x LIMIT ?x"  # noqa: S608  ours
        count += session.execute(f"DELETE FROM {table} WHERE id IN ({chosen})", job_id, left).rowcount  # noqa: S608
    return count


def _are_few(session: SqlSession, job_ids: list[int]) -> bool:
    """Whether jobs have so few rows, all tables together, that they can go at once."""
    left = MOST_AT_ONCE - len(job_ids)
    if left < 0:
        return False
    parts = (f"SELECT 1 FROM {table} WHERE {column} IN (?X)" for table, column in _PARTS)  # noqa: S608  ours
    query = f"SELECT count(*) FROM (SELECT 1 FROM ({' UNION ALL '.join(parts)}) LIMIT ?x)"  # noqa: S608  ours
    return bool(session.query(query, *([job_ids] * len(_PARTS)), left + 1).rows[0][0] <= left)
