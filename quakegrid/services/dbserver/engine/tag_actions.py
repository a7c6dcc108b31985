"""Upstream's named actions on tags of jobs; each answers with a "success" or an "error"."""

from __future__ import annotations

from typing import Any

from quakegrid.errors import StateError
from quakegrid.services.dbserver.jobs import field_checks, tags
from quakegrid.services.dbserver.store.database import SqlSession


def list_tags(session: SqlSession) -> dict[str, Any]:
    """All tags by name."""
    return {
        "success": "ok",
        "tags": [row["name"] for row in session.query("SELECT name FROM tag ORDER BY name")],
    }


def get_preferred_job_for_tag(session: SqlSession, tag_name: str) -> dict[str, Any]:
    """The id of the job that is preferred for a tag, or None."""
    query = (
        "SELECT j.id FROM job AS j JOIN job_tag jt ON j.id = jt.job_id JOIN tag t ON t.id = jt.tag_id "
        "WHERE t.name = ?x AND jt.is_preferred = 1"
    )
    row = session.first(query, tag_name)
    return {"success": "ok", "job_id": row["id"] if row else None}


def create_tag(session: SqlSession, name: str) -> dict[str, str]:
    """Create a tag."""
    field_checks.check_name("the name of a tag", name)
    if tags.find_id(session, name) is not None:
        return {"success": f"Tag {name} already exists"}
    try:
        session.execute("INSERT INTO tag (name) VALUES (?x)", name)
    except StateError as exc:
        return {"error": str(exc)}
    return {"success": f"Tag {name} was created"}


def delete_tag(session: SqlSession, name: str) -> dict[str, str]:
    """Delete a tag and take it from all jobs."""
    if tags.find_id(session, name) is None:
        return {"success": f"Tag {name} does not exist"}
    tags.delete(session, name)
    return {"success": f"Tag {name} was deleted"}


def add_tag_to_job(session: SqlSession, job_id: int, tag_name: str) -> dict[str, str]:
    """Give a job a tag, which is created if need be."""
    try:
        tag_id = tags.find_or_create(session, tag_name)
        insert = "INSERT INTO job_tag (job_id, tag_id, is_preferred) VALUES (?x, ?x, 0)"
        session.execute(insert, job_id, tag_id)
    except StateError as exc:
        return {"error": str(exc)}
    return {"success": f"The tag {tag_name} was added to job {job_id}"}


def remove_tag_from_job(session: SqlSession, job_id: int, tag_name: str) -> dict[str, str]:
    """Take a tag from a job."""
    tag_id = tags.find_id(session, tag_name)
    if tag_id is None:
        return {"success": f"Tag {tag_name} was not associated with job {job_id}"}
    tags.remove(session, job_id, tag_id)
    return {"success": f"Tag {tag_name} was removed from job {job_id}"}


def set_preferred_job_for_tag(session: SqlSession, job_id: int, tag_name: str) -> dict[str, str]:
    """Make a job the preferred one of a tag; both get connected if need be."""
    try:
        tag_id = tags.find_or_create(session, tag_name)
        tags.prefer(session, job_id, tag_id)
    except StateError as exc:
        return {"error": str(exc)}
    return {"success": f"Job {job_id} was set as preferred for tag {tag_name}"}


def unset_preferred_job_for_tag(session: SqlSession, tag_name: str) -> dict[str, str]:
    """Leave a tag without a preferred job."""
    tag_id = tags.find_id(session, tag_name)
    if tag_id is not None:
        tags.unset_preferred(session, tag_id)
    return {"success": f"Tag {tag_name} has no preferred job now"}


READING = (list_tags, get_preferred_job_for_tag)
WRITING = (
    create_tag,
    delete_tag,
    add_tag_to_job,
    remove_tag_from_job,
    set_preferred_job_for_tag,
    unset_preferred_job_for_tag,
)
