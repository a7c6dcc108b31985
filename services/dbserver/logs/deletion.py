"""Deleting many rows in small transactions, so that other writes are made in between.

A job's log is deleted before its row. Otherwise the deletion of the row would delete the log in one
transaction, and nobody could write meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from services.dbserver.store.database import SqlSession
from services.dbserver.store.writer import Writer

# To delete so many rows takes some tens of milliseconds.
BATCH_COUNT = 5000
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM log WHERE job_id=?x LIMIT ?x)"
_DROP = "DELETE FROM log WHERE id IN (SELECT id FROM log WHERE job_id=?x LIMIT ?x)"
# The jobs that are deleted with some jobs: those that start from them, and those of their workflow.
_WITH_DEPENDENTS = """WITH RECURSIVE doomed(id) AS (SELECT id FROM job WHERE id IN (?X) UNION
 SELECT job.id FROM job JOIN doomed ON job.hazard_calculation_id = doomed.id OR job.workflow_id = doomed.id)
SELECT id FROM doomed"""


def delete_in_batches(
    writer: Writer, delete: Callable[[SqlSession, int], int], is_closing: Callable[[], bool]
) -> int:
    """Delete rows until there are none left; returns how many.

    Args:
        writer: does each batch in a transaction of its own.
        delete: deletes at most so many rows, and returns how many.
        is_closing: asked before each batch; true ends it.
    """
    total = 0
    while not is_closing():
        count = writer.run(lambda session: delete(session, BATCH_COUNT))
        total += count
        if count < BATCH_COUNT:
            break
    return total


def drop_log(writer: Writer, job_id: int, is_closing: Callable[[], bool]) -> int:
    """Delete the log of a job; returns how many lines."""
    return delete_in_batches(
        writer, lambda session, count: session.execute(_DROP, job_id, count).rowcount, is_closing
    )


def drop_long_logs(writer: Writer, session: SqlSession, job_ids: Iterable[int]) -> None:
    """Delete logs of jobs that are about to be deleted, until no more than a batch is left of them all.

    Args:
        writer: as above.
        session: reads which they are.
        job_ids: the jobs; those that SQLite deletes with them are added.
    """
    left_count = 0
    for (job_id,) in session.query(_WITH_DEPENDENTS, list(job_ids)).rows:
        count = session.query(_COUNT, job_id, BATCH_COUNT + 1).rows[0][0]
        if count and left_count + count > BATCH_COUNT:
            drop_log(writer, job_id, lambda: False)
        else:
            left_count += count
