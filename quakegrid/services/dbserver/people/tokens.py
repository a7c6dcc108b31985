"""Rows of tokens for nodes, and which hosts have used them. No key is here: a token proves itself by TLS."""

from __future__ import annotations

from dataclasses import dataclass

from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.errors import CredentialError, NotFoundError, StateError, UsageError
from quakegrid.services.dbserver.store.database import SqlSession

MOST_VALID = 1000
# How long a token that has ended is listed.
_KEPT_S = 31 * 86_400
_COLUMNS = "id, host, max_hosts, issue_s, end_s, issuer, revocation_s"


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One token; times are seconds since 1970."""

    id: str
    # The one host that may use it; empty for any.
    host: str
    max_hosts: int
    issue_s: float
    end_s: float
    issuer: str
    revocation_s: float | None = None


def issue(session: SqlSession, new: TokenRow) -> None:
    """Store a new token, and forget those that have ended long ago.

    Raises:
        StateError: too many are valid.
    """
    session.execute("DELETE FROM quakegrid_node_token WHERE end_s < ?x", new.issue_s - _KEPT_S)
    if sum(row.revocation_s is None and row.end_s > new.issue_s for row in find_all(session)) >= MOST_VALID:
        raise StateError(f"{MOST_VALID} tokens are valid, which is the most; revoke some")
    session.execute(
        "INSERT INTO quakegrid_node_token (id, host, max_hosts, issue_s, end_s, issuer) VALUES (?X)",
        [new.id, new.host, new.max_hosts, new.issue_s, new.end_s, new.issuer],
    )


def use(session: SqlSession, token_id: str, host: str, now_s: float) -> TokenRow:
    """Count the use of a token by a host; returns the token.

    Raises:
        CredentialError: it may not be used, or not by this host.
    """
    row = next(iter(_find(session, "id=?x", token_id)), None)
    if row is None or row.revocation_s is not None or row.end_s <= now_s:
        raise CredentialError(_refusal("the token has ended, was revoked, or is not known here"))
    if row.host not in ("", host):
        raise CredentialError(
            f"the token is for the node {row.host}, and this one is called {host}; see --name"
        )
    hosts = users(session, token_id)
    if host in hosts:
        raise CredentialError(
            _refusal(f"the token was used by {host} already, and counts once for each host")
        )
    if len(hosts) >= row.max_hosts:
        raise CredentialError(_refusal(f"the token was used by {', '.join(hosts[:3])} and is used up"))
    session.execute(
        "INSERT INTO quakegrid_node_token_use (token_id, host, use_s) VALUES (?X)", [token_id, host, now_s]
    )
    return row


def revoke(session: SqlSession, prefix: str, revoker: str, now_s: float) -> TokenRow:
    """Revoke a token; returns it as it was.

    Args:
        session: of the writer.
        prefix: how its id begins.
        revoker: who asks.
        now_s: seconds since 1970.
    Raises:
        NotFoundError: there is none.
        UsageError: there are several.
    """
    found = [row for row in find_all(session) if row.id.startswith(prefix)]
    if not found or not prefix:
        raise NotFoundError(f"there is no token {prefix}; `quakegrid token list` shows all")
    if len(found) > 1:
        raise UsageError(f"{len(found)} tokens begin with {prefix}; give more of the id")
    session.execute(
        "UPDATE quakegrid_node_token SET revocation_s=?x, revoker=?x WHERE id=?x AND revocation_s IS NULL",
        now_s,
        revoker,
        found[0].id,
    )
    return found[0]


def revoke_made_by(session: SqlSession, name: str, revoker: str, now_s: float) -> int:
    """Revoke all tokens that a person has made: whoever had the credential can have kept some of them.

    Returns:
        How many counted until now.
    """
    issuer = str(Principal(PrincipalRole.ADMIN, name))
    valid = _find(session, "issuer=?x AND revocation_s IS NULL AND end_s > ?x", issuer, now_s)
    change = "UPDATE quakegrid_node_token SET revocation_s=?x, revoker=?x"
    session.execute(f"{change} WHERE issuer=?x AND revocation_s IS NULL", now_s, revoker, issuer)
    return len(valid)


def users(session: SqlSession, token_id: str) -> list[str]:
    """The hosts that have used a token, the first one first."""
    query = "SELECT host FROM quakegrid_node_token_use WHERE token_id=?x ORDER BY use_s, host"
    return [str(row["host"]) for row in session.query(query, token_id)]


def find_all(session: SqlSession) -> list[TokenRow]:
    """All tokens, the newest first."""
    return _find(session, "?A", {})


def _find(session: SqlSession, condition: str, *args: object) -> list[TokenRow]:
    query = f"SELECT {_COLUMNS} FROM quakegrid_node_token WHERE {condition} ORDER BY issue_s DESC, id"  # noqa: S608
    return [TokenRow(*row) for row in session.query(query, *args).rows]


def _refusal(what: str) -> str:
    return f"{what}; an admin makes a new one: `quakegrid token create --node`"
