"""Finds the jobs that an engine call is about to delete, before the call is made.

Their long logs are deleted first (`logs/deletion.py`). The action itself decides in its transaction which
jobs it deletes. For a call that will be refused no jobs are found.
"""

from __future__ import annotations

from quakegrid.errors import NotFoundError, StateError
from services.dbserver.jobs import rows
from services.dbserver.store.database import SqlSession

_DROPPED_WORKFLOWS = "SELECT id FROM job WHERE calculation_mode='workflow' AND NOT relevant AND id != ?x"


def of_del_calc(
    session: SqlSession, job_id: int | str, user: str, _delete_file: bool = True, force: bool = False
) -> list[int]:
    """A user's calculation; if it is an array of jobs, its members."""
    job_id = int(job_id)
    query = "SELECT id FROM job WHERE hazard_calculation_id=?x AND status != 'deleted'"
    members = [row["id"] for row in session.query(query, job_id)]
    if force or job_id not in members:
        members = [job_id]
    else:
        force = True
    return [each for each in members if _is_deletable(session, each, user, is_forced=force)]


def of_keep(session: SqlSession, workflow_id: int) -> list[int]:
    """All workflows but those that are kept."""
    query = "SELECT id FROM job WHERE calculation_mode='workflow' AND id=?x"
    if session.first(query, workflow_id) is None:
        return []
    return [row["id"] for row in session.query(_DROPPED_WORKFLOWS, workflow_id)]


def of_ids(_session: SqlSession, job_ids: list[int]) -> list[int]:
    """Jobs by their ids."""
    return list(job_ids)


def of_workflows(session: SqlSession) -> list[int]:
    """All workflows that are not kept."""
    return [row["id"] for row in session.query(_DROPPED_WORKFLOWS, 0)]


def _is_deletable(session: SqlSession, job_id: int, user: str, *, is_forced: bool) -> bool:
    try:
        rows.check_deletable(session, job_id, user, is_forced=is_forced)
    except (NotFoundError, StateError):
        return False
    return True
