"""Rows of tokens for the web service: for programs, for one login, and sessions. No token is in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from quakegrid.errors import NotAllowedError, NotFoundError, StateError, UsageError
from quakegrid.services.dbserver.store.database import SqlSession

# Of one person, of each kind. The oldest session makes room for another one.
MOST_OF_PERSON = 100
MOST_LISTED = 1000
# How long a token that has ended is listed, and a session or a token for one login.
_KEPT_S = 31 * 86_400
_KEPT_SHORT_S = 86_400
# The use of a token is written down at most so often.
USE_EVERY_S = 60.0
_COLUMNS = (
    "id, kind, name, role, label, credential_id, issue_s, end_s, idle_timeout_s, use_s, issuer, revocation_s"
)


class WebTokenKind(StrEnum):
    """What a token is for."""

    TOKEN = "token"  # noqa: S105  the word
    LINK = "link"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class WebTokenRow:
    """One token; times are seconds since 1970."""

    id: str
    kind: str
    name: str
    role: str
    label: str
    # The certificate that it was made with; it ends with that. Empty for none.
    credential_id: str
    issue_s: float
    end_s: float
    # It ends if nobody uses it for so long; 0 for never.
    idle_timeout_s: float
    use_s: float | None
    issuer: str
    revocation_s: float | None = None

    @property
    def until_s(self) -> float:
        """When it ends if nobody uses it any more."""
        if not self.idle_timeout_s:
            return self.end_s
        return min(self.end_s, (self.use_s or self.issue_s) + self.idle_timeout_s)

    def counts(self, now_s: float, credential_ids: frozenset[str]) -> bool:
        """Whether it is neither revoked nor ended, and so its credential."""
        has_credential = not self.credential_id or self.credential_id in credential_ids
        return self.revocation_s is None and now_s < self.until_s and has_credential

    def is_use_old(self, now_s: float) -> bool:
        """Whether this use is to be written down."""
        return self.use_s is None or not self.use_s <= now_s < self.use_s + USE_EVERY_S


def issue(session: SqlSession, new: WebTokenRow) -> None:
    """Store a new token, and forget those that have ended long ago.

    Raises:
        StateError: the person has too many.
    """
    now_s = new.issue_s
    session.execute(
        "DELETE FROM quakegrid_web_token WHERE end_s < ?x OR (kind != 'token' AND "
        "(end_s < ?x OR revocation_s < ?x))",
        now_s - _KEPT_S,
        now_s - _KEPT_SHORT_S,
        now_s - _KEPT_SHORT_S,
    )
    query = "name=?x AND kind=?x AND revocation_s IS NULL AND end_s > ?x"
    found = _find(session, query, new.name, new.kind, now_s)
    if len(found) >= MOST_OF_PERSON:
        if new.kind != WebTokenKind.SESSION:
            raise StateError(
                f"{new.name} has {MOST_OF_PERSON} tokens, which is the most; `quakegrid token list "
                "--web` shows them, and `quakegrid token revoke --web ID` ends one"
            )
        _end(session, found[MOST_OF_PERSON - 1 :], "another login", now_s)
    session.execute(
        f"INSERT INTO quakegrid_web_token ({_COLUMNS}) VALUES (?X)",  # noqa: S608  a constant
        [
            new.id,
            new.kind,
            new.name,
            new.role,
            new.label,
            new.credential_id,
            new.issue_s,
            new.end_s,
            new.idle_timeout_s,
            new.use_s,
            new.issuer,
            new.revocation_s,
        ],
    )


def find(session: SqlSession, token_id: str) -> WebTokenRow | None:
    """A token; None if it is not known."""
    return next(iter(_find(session, "id=?x", token_id)), None)


def use(session: SqlSession, token_id: str, now_s: float) -> None:
    """Write down that a token was used."""
    session.execute("UPDATE quakegrid_web_token SET use_s=?x WHERE id=?x", now_s, token_id)


def use_up(session: SqlSession, token_id: str, now_s: float, credential_ids: frozenset[str]) -> WebTokenRow:
    """Use a token for one login, which ends by this; returns it.

    Raises:
        NotAllowedError: it does not count.
    """
    row = find(session, token_id)
    if row is None or row.kind != WebTokenKind.LINK or not row.counts(now_s, credential_ids):
        raise NotAllowedError(
            "the link does not count: it was used already, or its minute is over; `quakegrid web open` makes "
            "another one"
        )
    _end(session, [row], "its use", now_s)
    use(session, token_id, now_s)
    return row


def end(session: SqlSession, token_id: str, by: str, now_s: float) -> WebTokenRow | None:
    """End a token, if there is one; returns it as it was."""
    row = find(session, token_id)
    if row is not None:
        _end(session, [row], by, now_s)
    return row


def revoke(session: SqlSession, prefix: str, owner: str | None, revoker: str, now_s: float) -> WebTokenRow:
    """Revoke a token; returns it as it was.

    Args:
        session: of the writer.
        prefix: how its id begins.
        owner: whose it has to be; None for anybody's.
        revoker: who asks.
        now_s: seconds since 1970.
    Raises:
        NotFoundError: there is none.
        UsageError: there are several.
    """
    found = [row for row in listed(session, owner) if prefix and row.id.startswith(prefix)]
    if not found:
        raise NotFoundError(f"there is no token {prefix}; `quakegrid token list --web` shows all")
    if len(found) > 1:
        raise UsageError(f"{len(found)} tokens begin with {prefix}; give more of the id")
    _end(session, found, revoker, now_s)
    return found[0]


def end_all(
    session: SqlSession,
    name: str,
    revoker: str,
    now_s: float,
    kinds: Sequence[WebTokenKind] = tuple(WebTokenKind),
) -> int:
    """End all tokens of a person; returns how many counted."""
    found = _find(session, "name=?x AND revocation_s IS NULL AND end_s > ?x", name, now_s)
    meant = [row for row in found if row.kind in kinds and now_s < row.until_s]
    _end(session, meant, revoker, now_s)
    return len(meant)


def listed(session: SqlSession, owner: str | None) -> list[WebTokenRow]:
    """The tokens of a person, or of all if that is None, the newest first."""
    found = _find(session, "?A", {} if owner is None else {"name": owner}, limit=MOST_LISTED)
    return [replace(row, end_s=row.until_s) for row in found]


def _find(session: SqlSession, condition: str, *args: object, limit: int = -1) -> list[WebTokenRow]:
    query = (
        f"SELECT {_COLUMNS} FROM quakegrid_web_token WHERE {condition} ORDER BY issue_s DESC LIMIT {limit}"  # noqa: S608
    )
    return [WebTokenRow(*row) for row in session.query(query, *args).rows]


def _end(session: SqlSession, rows: list[WebTokenRow], revoker: str, now_s: float) -> None:
    for row in rows:
        session.execute(
            "UPDATE quakegrid_web_token SET revocation_s=?x, revoker=?x WHERE id=?x AND revocation_s IS NULL",
            now_s,
            revoker,
            row.id,
        )
