"""Tags of jobs in the database: found, created, deleted, given and taken."""

from __future__ import annotations

from quakegrid.services.dbserver.jobs import field_checks
from quakegrid.services.dbserver.store.database import SqlSession

# Jobs that lose a tag in one transaction: some milliseconds, for which other writes wait.
JOBS_AT_ONCE = 1000


def find_id(session: SqlSession, name: str) -> int | None:
    """The id of a tag, or None."""
    row = session.first("SELECT id FROM tag WHERE name = ?x", name)
    return row["id"] if row else None


def find_or_create(session: SqlSession, name: str) -> int:
    """The id of a tag, which is created if there is none.

    Raises:
        UsageError: the name is no text, or too long.
    """
    field_checks.check_name("the name of a tag", name)
    tag_id = find_id(session, name)
    if tag_id is None:
        tag_id = session.execute("INSERT INTO tag (name) VALUES (?x)", name).lastrowid
        assert tag_id is not None
    return tag_id


def take_from_some(session: SqlSession, name: str) -> bool:
    """Take a tag from a bounded number of jobs; false if no job had it any more."""
    some = "SELECT job_tag.id FROM job_tag JOIN tag ON tag.id = tag_id WHERE name = ?x LIMIT ?x"
    return session.execute(f"DELETE FROM job_tag WHERE id IN ({some})", name, JOBS_AT_ONCE).rowcount > 0  # noqa: S608


def delete(session: SqlSession, name: str) -> None:
    """Delete a tag and take it from all jobs; nothing happens if there is none."""
    session.execute("DELETE FROM tag WHERE name = ?x", name)


def remove(session: SqlSession, job_id: int, tag_id: int) -> None:
    """Take a tag from a job; nothing happens if the job does not have it."""
    session.execute("DELETE FROM job_tag WHERE job_id = ?x AND tag_id = ?x", job_id, tag_id)


def prefer(session: SqlSession, job_id: int, tag_id: int) -> None:
    """Make a job the preferred one of a tag; the job gets the tag if it does not have it."""
    unset_preferred(session, tag_id)
    session.execute(
        "INSERT INTO job_tag (job_id, tag_id, is_preferred) VALUES (?x, ?x, 1) "
        "ON CONFLICT(job_id, tag_id) DO UPDATE SET is_preferred = 1",
        job_id,
        tag_id,
    )


def unset_preferred(session: SqlSession, tag_id: int) -> None:
    """Leave a tag without a preferred job."""
    session.execute("UPDATE job_tag SET is_preferred = 0 WHERE tag_id = ?x AND is_preferred = 1", tag_id)
