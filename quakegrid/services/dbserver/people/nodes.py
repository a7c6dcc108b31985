"""Rows of nodes with certificates: issued, renewed, revoked. No key is in them.

At most one row of a node counts: a new certificate ends the row before it. A renewed one keeps its row. Rows
that have ended long ago are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from quakegrid.errors import CredentialError, NotFoundError, StateError
from quakegrid.services.dbserver.store.database import SqlSession

# As many as a fleet may have.
MOST_NODES = 5000
# Services are told of certificates that have ended for so long: connections may outlive them.
_TOLD_S = 30 * 86_400
_KEPT_S = 2 * _TOLD_S
_COLUMNS = "host, id, issue_s, end_s, token_id, renewal_s, revocation_s"


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A certificate of a node; times are seconds since 1970."""

    host: str
    id: str
    issue_s: float
    end_s: float
    token_id: str
    renewal_s: float | None = None
    revocation_s: float | None = None

    def counts(self, now_s: float) -> bool:
        """Whether it is neither revoked nor ended."""
        return self.revocation_s is None and self.end_s > now_s

    def is_shut_out(self, now_s: float) -> bool:
        """Whether connections that were made with it must be closed. All that ended long ago are closed."""
        return not self.counts(now_s) and self.end_s > now_s - _TOLD_S


def issue(session: SqlSession, new: NodeRow, *, may_replace: bool) -> None:
    """Store the certificate of a node, in the place of an earlier one.

    Args:
        session: of the writer.
        new: what the certificate says.
        may_replace: whether a valid one may be replaced, which then does not count any more.
    Raises:
        StateError: the node has a valid one, or there are too many nodes.
    """
    now_s = new.issue_s
    session.execute("DELETE FROM quakegrid_node WHERE end_s < ?x", now_s - _KEPT_S)
    old = find(session, new.host)
    if old is not None and old.counts(now_s) and not may_replace:
        raise StateError(
            f"the cluster has a node called {new.host} with a valid certificate; give this machine another "
            "name with --name, or replace the other one by a token that is for it alone: "
            f"`quakegrid token create --node --host {new.host}`"
        )
    if old is None and len(current(find_all(session))) >= MOST_NODES:
        raise StateError(f"{MOST_NODES} nodes have certificates, which is the most")
    _end(session, new.host, f"token {new.token_id}", now_s)
    session.execute(
        "INSERT INTO quakegrid_node (host, id, issue_s, end_s, token_id) VALUES (?X)",
        [new.host, new.id, new.issue_s, new.end_s, new.token_id],
    )


def renew(session: SqlSession, host: str, credential_id: str, end_s: float, now_s: float) -> NodeRow:
    """Let a certificate count longer; returns the row.

    Raises:
        CredentialError: it does not count any more.
    """
    row = find(session, host)
    if row is None or row.id != credential_id or not row.counts(now_s):
        raise CredentialError(f"the certificate of the node {host} does not count any more")
    renewed = replace(row, renewal_s=now_s, end_s=max(end_s, row.end_s))
    session.execute(
        "UPDATE quakegrid_node SET renewal_s=?x, end_s=?x WHERE id=?x", now_s, renewed.end_s, row.id
    )
    return renewed


def revoke(session: SqlSession, host: str, revoker: str, now_s: float) -> NodeRow | None:
    """Revoke the certificate of a node; returns it, or None if it did not count any more.

    Raises:
        NotFoundError: no node of this name has had one.
    """
    row = find(session, host)
    if row is None:
        raise NotFoundError(
            f"no node called {host} has had a certificate; `quakegrid node list` shows all. A node that has "
            "the authkey is shut out by another authkey only"
        )
    if not row.counts(now_s):
        return None
    _end(session, host, revoker, now_s)
    return replace(row, revocation_s=now_s)


def find(session: SqlSession, host: str) -> NodeRow | None:
    """The newest certificate of a node; None if it has had none."""
    query = f"SELECT {_COLUMNS} FROM quakegrid_node WHERE host=?x ORDER BY issue_s DESC LIMIT 1"  # noqa: S608
    rows = session.query(query, host).rows
    return NodeRow(*rows[0]) if rows else None


def find_all(session: SqlSession) -> list[NodeRow]:
    """All certificates, by node, the newest one last."""
    rows = session.query(f"SELECT {_COLUMNS} FROM quakegrid_node ORDER BY host, issue_s").rows  # noqa: S608
    return [NodeRow(*row) for row in rows]


def current(rows: list[NodeRow]) -> list[NodeRow]:
    """The newest certificate of each node, of all as `find_all` gives them."""
    return list({row.host: row for row in rows}.values())


def _end(session: SqlSession, host: str, revoker: str, now_s: float) -> None:
    """Let no certificate of a node count any more."""
    session.execute(
        "UPDATE quakegrid_node SET revocation_s=?x, revoker=?x WHERE host=?x AND revocation_s IS NULL",
        now_s,
        revoker,
        host,
    )
