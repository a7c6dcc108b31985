"""Rows of the audit log: written once, listed by pages, forgotten when they are old or too many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from quakegrid.access.audits import OK, About, AuditRecord
from quakegrid.services.dbserver.store.database import SqlSession

# Of some 300 bytes each. People cannot fill the disk with what they do.
MOST_ROWS = 2_000_000
_COLUMNS = (
    "id, time_s, role, name, told, action, job_id, owner, node, person, detail, outcome, peer, service, count"
)
_INSERTED = _COLUMNS.partition(", ")[2]
_OWNER = "SELECT user_name FROM job WHERE id=?x"
# A job that was just deleted; its event is among the last ones.
_FORMER_OWNER = (
    "SELECT user_name FROM (SELECT job_id, user_name FROM quakegrid_job_event ORDER BY id DESC LIMIT 10000) "
    "WHERE job_id=?x LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class WantedRecords:
    """Which records are wanted; empty, 0 or None where it does not matter.

    Args:
        user: by this person, or by a command that told this name, or done to them or to their jobs.
        job_id: done to this job.
        node: done to this node.
        since_s: not older, in seconds since 1970.
        seen_by: only what this person may see: what they did, and what was done to their jobs and to them.
    """

    user: str = ""
    job_id: int = 0
    node: str = ""
    since_s: float = 0.0
    seen_by: str | None = None


def insert(session: SqlSession, records: Iterable[AuditRecord]) -> None:
    """Store records; the owners of their jobs are looked up now."""
    for record in records:
        about = record.about
        values = [
            record.time_s,
            record.role,
            record.name,
            about.told,
            about.action,
            about.job_id,
            _owner(session, record),
            about.node,
            about.person,
            about.detail,
            record.outcome,
            record.peer,
            record.service,
            record.count,
        ]
        session.execute(f"INSERT INTO quakegrid_audit ({_INSERTED}) VALUES (?X)", values)  # noqa: S608  ours


def newest(session: SqlSession, wanted: WantedRecords, before_id: int, count: int) -> list[AuditRecord]:
    """The last records before an id, at most so many, the newest first."""
    return _find(session, wanted, "id < ?x", before_id, f"DESC LIMIT {count}")


def following(session: SqlSession, wanted: WantedRecords, after_id: int, count: int) -> list[AuditRecord]:
    """The first records after an id, at most so many, the oldest first."""
    return _find(session, wanted, "id > ?x", after_id, f"ASC LIMIT {count}")


def forget_old(session: SqlSession, count: int, days: int, now_s: float) -> int:
    """Delete old records and those beyond `MOST_ROWS`; returns how many were deleted.

    Args:
        session: of the writer.
        count: looks at so many of the first records, and at no others.
        days: how long records are kept; 0 for ever.
        now_s: seconds since 1970.
    """
    limit_s = now_s - days * 86_400 if days else 0.0
    return session.execute(
        "DELETE FROM quakegrid_audit WHERE id IN (SELECT id FROM "
        "(SELECT id, time_s FROM quakegrid_audit ORDER BY id LIMIT ?x) "
        "WHERE time_s < ?x OR id <= (SELECT max(id) FROM quakegrid_audit) - ?x)",
        count,
        limit_s,
        MOST_ROWS,
    ).rowcount


def last_id(session: SqlSession) -> int:
    """The id of the newest record; 0 if there is none."""
    row = session.first("SELECT max(id) AS id FROM quakegrid_audit")
    return row["id"] or 0 if row else 0


def _owner(session: SqlSession, record: AuditRecord) -> str:
    """Whose the job of a record is or was; empty without one."""
    job_id = record.about.job_id
    if job_id <= 0:
        return ""
    row = session.first(_OWNER, job_id)
    if row is None and record.outcome == OK:
        row = session.first(_FORMER_OWNER, job_id)
    return str(row["user_name"]) if row else ""


def _find(
    session: SqlSession, wanted: WantedRecords, place: str, place_id: int, order: str
) -> list[AuditRecord]:
    given = [(place, place_id), *_conditions(wanted)]
    condition = " AND ".join(condition for condition, _ in given)
    query = f"SELECT {_COLUMNS} FROM quakegrid_audit WHERE {condition} ORDER BY id {order}"  # noqa: S608  ours
    return list(map(_record, session.query(query, *(value for _, value in given)).rows))


def _conditions(wanted: WantedRecords) -> Iterator[tuple[str, Any]]:
    if wanted.user:
        yield "?x IN (name, told, person, owner)", wanted.user
    if wanted.seen_by is not None:
        yield "?x IN (name, person, owner)", wanted.seen_by
    if wanted.job_id:
        yield "job_id = ?x", wanted.job_id
    if wanted.node:
        yield "node = ?x", wanted.node
    if wanted.since_s:
        yield "time_s >= ?x", wanted.since_s


def _record(row: tuple[Any, ...]) -> AuditRecord:
    number, time_s, role, name, told, action, job_id, owner, node, person, detail, *rest = row
    outcome, peer, service, count = rest
    about = About(action, job_id=job_id, node=node, person=person, detail=detail, told=told)
    return AuditRecord(time_s, role, name, about, outcome, peer, service, count, number, owner)
