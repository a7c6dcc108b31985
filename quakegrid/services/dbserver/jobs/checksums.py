"""Checksums of hazards in the database: which job holds which hazard."""

from __future__ import annotations

from quakegrid.jobs.engine_values import RowValue
from quakegrid.services.dbserver.jobs import field_checks
from quakegrid.services.dbserver.store.database import SqlSession


def find_job(session: SqlSession, checksum: int) -> RowValue | None:
    """The row of the complete job that holds the hazard with this checksum, or None."""
    query = (
        "SELECT job.* FROM job, checksum WHERE hazard_checksum=?x AND job.id=job_id AND status = 'complete'"
    )
    return session.first(query, checksum)


def of_job(session: SqlSession, job_id: int) -> int:
    """The checksum of the hazard that a job holds.

    Raises:
        NotFoundError: the job holds no hazard with a checksum.
    """
    missing = f"job {job_id} has no checksum"
    row = session.one(missing, "SELECT hazard_checksum FROM checksum WHERE job_id=?x", job_id)
    return int(row.values[0])


def store(session: SqlSession, job_id: int, checksum: int) -> None:
    """Store that this job, and no other one, holds the hazard with this checksum.

    Raises:
        UsageError: the checksum is no integer of 64 bits.
    """
    field_checks.check_integer("checksum", checksum)
    update = "UPDATE checksum SET job_id=?x WHERE hazard_checksum=?x"
    if not session.execute(update, job_id, checksum).rowcount:
        session.execute("INSERT INTO checksum (job_id, hazard_checksum) VALUES (?x, ?x)", job_id, checksum)
