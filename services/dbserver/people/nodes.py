"""Rows of nodes with certificates: issued, renewed, revoked. A node has one row, and no key is in it."""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.errors import CredentialError, NotFoundError, StateError
from services.dbserver.store.database import SqlSession

# As many as a fleet may have.
MOST_NODES = 5000
_COLUMNS = "host, id, issue_s, end_s, token_id, renewal_s, revocation_s"
# Brokers are told of nodes whose certificate has ended for so long: their connections may outlive it.
_TOLD_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class NodeRow:
    """The newest certificate of a node; times are seconds since 1970."""

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


def issue(session: SqlSession, new: NodeRow, *, may_replace: bool) -> None:
    """Store the certificate of a node, in the place of an earlier one.

    Args:
        session: of the writer.
        new: what the certificate says.
        may_replace: whether a valid one may be replaced, which then does not count any more.
    Raises:
        StateError: the node has a valid one, or there are too many nodes.
    """
    old = find(session, new.host)
    if old is not None and old.counts(new.issue_s) and not may_replace:
        raise StateError(
            f"the cluster has a node called {new.host} with a valid certificate; give this machine another "
            "name with --name, or replace the other one by a token that is for it alone: "
            f"`quakegrid token create --node --host {new.host}`"
        )
    if old is None and len(find_all(session)) >= MOST_NODES:
        raise StateError(f"{MOST_NODES} nodes have had certificates, which is the most")
    session.execute(
        "INSERT OR REPLACE INTO quakegrid_node (host, id, issue_s, end_s, token_id) VALUES (?X)",
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
    session.execute(
        "UPDATE quakegrid_node SET renewal_s=?x, end_s=?x WHERE host=?x", now_s, max(end_s, row.end_s), host
    )
    return NodeRow(host, row.id, row.issue_s, max(end_s, row.end_s), row.token_id, now_s)


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
    session.execute(
        "UPDATE quakegrid_node SET revocation_s=?x, revoker=?x WHERE host=?x", now_s, revoker, host
    )
    return NodeRow(row.host, row.id, row.issue_s, row.end_s, row.token_id, row.renewal_s, now_s)


def find(session: SqlSession, host: str) -> NodeRow | None:
    """The row of a node; None if it has had no certificate."""
    rows = session.query(f"SELECT {_COLUMNS} FROM quakegrid_node WHERE host=?x", host).rows  # noqa: S608
    return NodeRow(*rows[0]) if rows else None


def find_all(session: SqlSession) -> list[NodeRow]:
    """All nodes that have had a certificate, by name."""
    rows = session.query(f"SELECT {_COLUMNS} FROM quakegrid_node ORDER BY host").rows  # noqa: S608
    return [NodeRow(*row) for row in rows]


def is_shut_out(row: NodeRow, now_s: float) -> bool:
    """Whether connections to a node must be closed. Those of a node that ended long ago are closed."""
    return not row.counts(now_s) and row.end_s > now_s - _TOLD_S
