"""Rows of passwords: hashes only. Those of an adopted database are Django's until the first login."""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.access.principals import PrincipalRole
from quakegrid.services.dbserver.people import credentials
from quakegrid.services.dbserver.store.database import SqlSession

MOST_LISTED = 10_000
_COLUMNS = "name, role, hash, changer, change_s"
# By whether Django calls somebody a superuser.
_ROLES = {False: PrincipalRole.USER, True: PrincipalRole.OPERATOR}


@dataclass(frozen=True, slots=True)
class PasswordRow:
    """The password of a person.

    Args:
        name: of the person.
        role: what the person may do.
        hash: empty if the person has no password any more.
        changer: who set it; empty if it is of an adopted database.
        change_s: when, in seconds since 1970.
    """

    name: str
    role: str
    hash: str
    changer: str = ""
    change_s: float = 0.0


def find(session: SqlSession, name: str) -> PasswordRow | None:
    """The password of a person; None for somebody who never had one."""
    rows = session.query(f"SELECT {_COLUMNS} FROM quakegrid_password WHERE name=?x", name).rows  # noqa: S608
    if rows:
        return PasswordRow(*rows[0])
    return next(iter(_adopted(session, "username=?x", name)), None)


def find_all(session: SqlSession) -> list[PasswordRow]:
    """All who have a password, by name."""
    own = session.query(f"SELECT {_COLUMNS} FROM quakegrid_password").rows  # noqa: S608  a constant
    found = {row.name: row for row in _adopted(session, "?A", {})}
    found |= {row.name: row for row in (PasswordRow(*each) for each in own)}
    return [row for _, row in sorted(found.items()) if row.hash][:MOST_LISTED]


def store(session: SqlSession, new: PasswordRow, changer: str, now_s: float) -> None:
    """Store a password in the place of an earlier one."""
    session.execute(
        f"INSERT OR REPLACE INTO quakegrid_password ({_COLUMNS}) VALUES (?X)",  # noqa: S608  a constant
        [new.name, new.role, new.hash, changer, now_s],
    )


def end(session: SqlSession, name: str, changer: str, now_s: float) -> bool:
    """Let a person have no password any more; whether there was one."""
    row = find(session, name)
    if row is None or not row.hash:
        return False
    store(session, PasswordRow(name, row.role, ""), changer, now_s)
    return True


def change_role(session: SqlSession, name: str, role: str, changer: str, now_s: float) -> None:
    """Give a person who has a password another role."""
    row = find(session, name)
    if row is not None and row.role != role:
        store(session, PasswordRow(name, role, row.hash), changer, now_s)


def role_of(session: SqlSession, name: str, now_s: float) -> PrincipalRole | None:
    """What a person may do; None if the cluster does not know the person, or not any more."""
    valid = credentials.find_valid(session, name, now_s)
    if valid:
        return PrincipalRole(valid[-1].role)
    row = find(session, name)
    return PrincipalRole(row.role) if row is not None and row.hash else None


def is_shut_out(session: SqlSession, name: str, now_s: float) -> bool:
    """Whether the password of a person was taken away, who has nothing else."""
    row = find(session, name)
    return row is not None and not row.hash and not credentials.find_valid(session, name, now_s)


def _adopted(session: SqlSession, condition: str, *args: object) -> list[PasswordRow]:
    """People of the engine's own web server, as Django has stored them."""
    if session.first("SELECT 1 FROM sqlite_master WHERE type='table' AND name='auth_user'") is None:
        return []
    query = f"SELECT username, is_superuser, is_active, password FROM auth_user WHERE {condition}"  # noqa: S608
    return [
        PasswordRow(str(name), _ROLES[bool(is_superuser)], str(hashed) if is_active else "")
        for name, is_superuser, is_active, hashed in session.query(query, *args).rows
    ]
