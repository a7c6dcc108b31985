"""Rows of passwords: hashes only. Those of an adopted database are Django's until the first login."""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.access.principals import PrincipalRole
from services.dbserver.people import credentials
from services.dbserver.store.database import SqlSession


@dataclass(frozen=True, slots=True)
class PasswordRow:
    """The password of a person.

    Args:
        name: of the person.
        role: what the person may do.
        hash: empty if the person has no password any more.
        is_adopted: whether the hash is of an adopted database.
    """

    name: str
    role: str
    hash: str
    is_adopted: bool = False


def find(session: SqlSession, name: str) -> PasswordRow | None:
    """The password of a person; None for somebody who never had one."""
    row = session.first("SELECT role, hash FROM quakegrid_password WHERE name=?x", name)
    if row is not None:
        return PasswordRow(name, str(row["role"]), str(row["hash"]))
    return _adopted(session, name)


def store(session: SqlSession, new: PasswordRow, changer: str, now_s: float) -> None:
    """Store a password in the place of an earlier one."""
    session.execute(
        "INSERT OR REPLACE INTO quakegrid_password (name, role, hash, changer, change_s) VALUES (?X)",
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


def _adopted(session: SqlSession, name: str) -> PasswordRow | None:
    """A person of the engine's own web server, as Django has stored them."""
    if session.first("SELECT 1 FROM sqlite_master WHERE type='table' AND name='auth_user'") is None:
        return None
    row = session.first("SELECT password, is_superuser, is_active FROM auth_user WHERE username=?x", name)
    if row is None:
        return None
    role = PrincipalRole.OPERATOR if row["is_superuser"] else PrincipalRole.USER
    return PasswordRow(name, role, str(row["password"]) if row["is_active"] else "", is_adopted=True)
