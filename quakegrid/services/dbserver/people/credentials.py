"""Rows of credentials: issued, listed, revoked. A row has what the certificate says, and no key."""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.errors import NotFoundError, StateError, UsageError
from quakegrid.services.dbserver.people import tokens
from quakegrid.services.dbserver.store.database import SqlSession

# All services keep the ids of all that count in memory, and are told of them in one message.
MOST_VALID = 10_000
_COLUMNS = "id, name, role, issue_s, end_s, issuer, cluster, revocation_s"
_VALID = "revocation_s IS NULL AND end_s > ?x"


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """One credential; times are seconds since 1970."""

    id: str
    name: str
    role: str
    issue_s: float
    end_s: float
    issuer: str
    cluster: str
    revocation_s: float | None = None


@dataclass(frozen=True, slots=True)
class Revoked:
    """What counted until it was revoked.

    Args:
        credentials: of the person.
        node_token_count: tokens for nodes that the person has made.
    """

    credentials: list[CredentialRow]
    node_token_count: int


def issue(session: SqlSession, new: CredentialRow, *, is_only: bool) -> Revoked:
    """Store a new credential; returns what was revoked for it.

    Args:
        session: of the writer.
        new: what its certificate says.
        is_only: whether all earlier ones of the person are revoked.
    Raises:
        StateError: the person has one of another role that is not revoked, or there are too many.
    """
    revoked = Revoked([], 0)
    if is_only:
        revoked = revoke_all(session, new.name, new.issuer, new.issue_s)
    others = {row.role for row in find_valid(session, new.name, new.issue_s)} - {new.role}
    if others:
        raise StateError(
            f"{new.name} has a credential with the role {', '.join(sorted(others))}; "
            f"`quakegrid user role {new.name} {new.role}` changes the role"
        )
    if len(valid_ids(session, new.issue_s)) >= MOST_VALID:
        raise StateError(f"{MOST_VALID} credentials are valid, which is the most; revoke some")
    session.execute(
        "INSERT INTO quakegrid_credential (id, name, role, issue_s, end_s, issuer, cluster) VALUES (?X)",
        [new.id, new.name, new.role, new.issue_s, new.end_s, new.issuer, new.cluster],
    )
    return revoked


def revoke(session: SqlSession, name: str, prefix: str, revoker: str, now_s: float) -> Revoked:
    """Revoke credentials of a person, and all tokens for nodes that the person has made.

    Args:
        session: of the writer.
        name: whose.
        prefix: how the id of the one that is meant begins; empty for all.
        revoker: who asks.
        now_s: seconds since 1970.
    Raises:
        NotFoundError: the person has no such credential.
        UsageError: more than one begins so.
    """
    known = _find(session, "name=?x", name)
    meant = [row for row in known if row.id.startswith(prefix)]
    if not meant:
        what = f"{name} has no credential {prefix}" if known else f"nobody here is called {name}"
        raise NotFoundError(f"{what}; `quakegrid user list` shows all credentials")
    if prefix and len(meant) > 1:
        raise UsageError(f"{len(meant)} credentials of {name} begin with {prefix}; give more of the id")
    ended = [row for row in meant if row.revocation_s is None and row.end_s > now_s]
    return _revoke(session, name, ended, revoker, now_s)


def revoke_all(session: SqlSession, name: str, revoker: str, now_s: float) -> Revoked:
    """Revoke all credentials of a person that count, and the tokens for nodes that the person has made."""
    return _revoke(session, name, find_valid(session, name, now_s), revoker, now_s)


def find_all(session: SqlSession) -> list[CredentialRow]:
    """All credentials, also those that have ended, by name and time."""
    return _find(session, "?A", {})


def find_valid(session: SqlSession, name: str, now_s: float) -> list[CredentialRow]:
    """The credentials of a person that count."""
    return _find(session, f"name=?x AND {_VALID}", name, now_s)


def last_cluster(session: SqlSession) -> str:
    """What the last credential calls the cluster; empty if there is none."""
    row = session.first("SELECT cluster FROM quakegrid_credential ORDER BY issue_s DESC LIMIT 1")
    return str(row["cluster"]) if row else ""


def valid_ids(session: SqlSession, now_s: float) -> frozenset[str]:
    """The ids of all credentials that count."""
    query = f"SELECT id FROM quakegrid_credential WHERE {_VALID}"  # noqa: S608  a constant
    return frozenset(row["id"] for row in session.query(query, now_s))


def _find(session: SqlSession, condition: str, *args: object) -> list[CredentialRow]:
    query = f"SELECT {_COLUMNS} FROM quakegrid_credential WHERE {condition} ORDER BY name, issue_s"  # noqa: S608
    return [CredentialRow(*row) for row in session.query(query, *args).rows]


def _revoke(session: SqlSession, name: str, rows: list[CredentialRow], revoker: str, now_s: float) -> Revoked:
    for row in rows:
        session.execute(
            "UPDATE quakegrid_credential SET revocation_s=?x, revoker=?x WHERE id=?x", now_s, revoker, row.id
        )
    return Revoked(rows, tokens.revoke_made_by(session, name, revoker, now_s))
