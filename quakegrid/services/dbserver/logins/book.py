"""Tokens and sessions of the web service: made, found, ended. For the dbserver's event loop."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from quakegrid import errors
from quakegrid.access import principals, web_tokens
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.access.proofs import KeyProof, keys_of
from quakegrid.services.dbserver.logins import password_rows, token_rows
from quakegrid.services.dbserver.logins.token_rows import WebTokenKind, WebTokenRow
from quakegrid.services.dbserver.people.listed import CredentialWrites
from quakegrid.services.dbserver.people.valid import ValidCredentials
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.writer import Writer
from quakegrid.transport.keys import web_token_keys

T = TypeVar("T")
SHORTEST_LIFE_S, LONGEST_LIFE_S = 1.0, 400 * 86_400.0
LONGEST_LINK_S = 3600.0
LONGEST_LABEL = 100
logger = logging.getLogger("dbserver")


@dataclass(frozen=True, slots=True)
class WantedSession:
    """How a session is to be.

    Args:
        way: how the person has logged in.
        life_s: how long it counts at most.
        idle_timeout_s: and without use.
    """

    way: str
    life_s: float
    idle_timeout_s: float


class LoginBook:
    """What the database knows of logins.

    Args:
        readers: connections that read.
        writer: writes what nobody else has to hear of.
        writes: changes what counts, and tells all services.
        valid: which credentials count.
        proof: the cluster's secret, which signs.
    """

    def __init__(
        self,
        readers: Readers,
        writer: Writer,
        writes: CredentialWrites,
        valid: ValidCredentials,
        *,
        proof: KeyProof,
    ) -> None:
        self._readers, self._writer, self._writes = readers, writer, writes
        self._valid, self._proof = valid, proof

    # --- tokens

    async def create(
        self, asker: Principal, person: str, label: str, life_s: float, *, is_single_use: bool
    ) -> tuple[str, WebTokenRow]:
        """A token of a person; returns its text, which is nowhere else, and its row.

        Raises:
            UsageError: a value is not allowed.
            StateError: the person has too many.
        """
        longest_s = LONGEST_LINK_S if is_single_use else LONGEST_LIFE_S
        if not SHORTEST_LIFE_S <= life_s <= longest_s:
            raise errors.UsageError(f"such a token lives for a second to {longest_s / 3600:.0f} hours")
        if len(label) > LONGEST_LABEL or not label.isprintable():
            raise errors.UsageError(f"a label has at most {LONGEST_LABEL} characters that can be printed")
        if asker.role is PrincipalRole.SERVICE:
            asker = Principal(PrincipalRole.ADMIN, checked(person))
        now_s = time.time()
        text, row = self._new(
            WebTokenKind.LINK if is_single_use else WebTokenKind.TOKEN,
            asker,
            label,
            now_s,
            min(now_s + life_s, asker.until_s),
        )
        await self._write(lambda session: token_rows.issue(session, row))
        logger.info("web_token_created kind=%s name=%s id=%s", row.kind, row.name, row.id[:8])
        return text, row

    async def revoke(self, prefix: str, owner: str | None, revoker: str) -> WebTokenRow:
        """End a token before its time; all services hear of it.

        Raises:
            NotFoundError: there is none.
            UsageError: there are several.
        """
        now_s = time.time()
        row = await self._writes.do(lambda session: token_rows.revoke(session, prefix, owner, revoker, now_s))
        logger.info("web_token_revoked name=%s id=%s by=%s", row.name, row.id[:8], revoker)
        return row

    def listed(self, owner: str | None) -> list[WebTokenRow]:
        """The tokens of a person, or of all."""
        return token_rows.listed(self._readers.session(), owner)

    # --- sessions

    async def open_session(
        self, wanted: WantedSession, name: str, role: PrincipalRole, token_id: str = ""
    ) -> tuple[str, WebTokenRow]:
        """Begin a session; returns the text for the cookie, and its row.

        Args:
            wanted: how it is to be.
            name: of the person, of whom the web service has made sure.
            role: what the person may do, if the cluster does not know the person.
            token_id: of a token for one login, which says who it is.
        Raises:
            NotAllowedError: the token does not count, or the person was shut out.
            UsageError: the name is none.
        """
        now_s = time.time()
        ids = self._valid.ids

        def open_one(session: SqlSession) -> tuple[str, WebTokenRow]:
            if token_id:
                used = token_rows.use_up(session, token_id, now_s, ids)
                person = Principal(PrincipalRole(used.role), used.name, used.credential_id)
            else:
                known = password_rows.role_of(session, name, now_s)
                if password_rows.is_shut_out(session, name, now_s):  # since the password was checked
                    raise errors.NotAllowedError(f"{name} was shut out")
                person = Principal(known or role, checked(name))
            end_s, idle_s = now_s + wanted.life_s, wanted.idle_timeout_s
            text, row = self._new(WebTokenKind.SESSION, person, wanted.way, now_s, end_s, idle_s)
            token_rows.issue(session, row)
            return text, row

        text, row = await self._write(open_one)
        logger.info("web_session_opened name=%s role=%s way=%s", row.name, row.role, row.label)
        return text, row

    def find(self, token_id: str) -> WebTokenRow:
        """A token for programs or a session that counts; its use is written down. For a thread.

        Raises:
            NotFoundError: it does not count.
        """
        now_s = time.time()
        row = token_rows.find(self._readers.session(), token_id)
        if row is None or row.kind == WebTokenKind.LINK or not row.counts(now_s, self._valid.ids):
            raise errors.NotFoundError("the token or session has ended, was revoked, or is not known here")
        if row.is_use_old(now_s):
            self._writer.submit(lambda session: token_rows.use(session, token_id, now_s))
        return row

    def role_of(self, name: str) -> PrincipalRole:
        """What a person may do. For a thread.

        Raises:
            NotFoundError: the cluster does not know the person.
            NotAllowedError: the person was shut out.
        """
        session, now_s = self._readers.session(), time.time()
        role = password_rows.role_of(session, name, now_s)
        if password_rows.is_shut_out(session, name, now_s):
            raise errors.NotAllowedError(
                f"{name} was shut out; `quakegrid user password {name}` lets them in"
            )
        if role is None:
            raise errors.NotFoundError(f"nobody here is called {name[:80]!a}")
        return role

    async def end_session(self, token_id: str) -> None:
        """End a session, if there is one; all services hear of it."""
        now_s = time.time()
        row = await self._writes.do(lambda session: token_rows.end(session, token_id, "its person", now_s))
        if row is not None:
            logger.info("web_session_ended name=%s", row.name)

    def _new(
        self,
        kind: WebTokenKind,
        person: Principal,
        label: str,
        now_s: float,
        end_s: float,
        idle_timeout_s: float = 0.0,
    ) -> tuple[str, WebTokenRow]:
        secret = secrets.token_bytes(web_tokens.SECRET_BYTES)
        text = web_tokens.to_text(secret, web_token_keys.signing_key(keys_of(self._proof).active))
        row = WebTokenRow(
            id=web_tokens.id_of(text),
            kind=kind,
            name=person.name,
            role=person.role,
            label=label,
            credential_id=person.credential_id,
            issue_s=now_s,
            end_s=end_s,
            idle_timeout_s=idle_timeout_s,
            use_s=None,
            issuer=str(person),
        )
        return text, row

    async def _write(self, work: Callable[[SqlSession], T]) -> T:
        return await asyncio.wrap_future(self._writer.submit(work))


def end_person(session: SqlSession, name: str, revoker: str, now_s: float) -> tuple[bool, int]:
    """End the password, the tokens and the sessions of a person: whether there was one, and how many."""
    had_password = password_rows.end(session, name, revoker, now_s)
    return had_password, token_rows.end_all(session, name, revoker, now_s)


def take_role(session: SqlSession, name: str, role: str, changer: str, *, is_only: bool) -> None:
    """Let a person have the role of a new credential at the web service, too.

    Args:
        session: of the writer.
        name: of the person.
        role: of the credential.
        changer: who asks.
        is_only: whether all that the person had before ends.
    Raises:
        StateError: the person has another role.
    """
    now_s = time.time()
    row = password_rows.find(session, name)
    if is_only:
        password_rows.change_role(session, name, role, changer, now_s)
        token_rows.end_all(session, name, changer, now_s)
    elif row is not None and row.hash and row.role != role:
        raise errors.StateError(
            f"{name} logs in with the role {row.role}; `quakegrid user role {name} {role}` changes the role"
        )


def checked(name: str) -> str:
    """A name that a person can have.

    Raises:
        UsageError: it is none.
    """
    if not principals.is_name(name):
        raise errors.UsageError(f"{name[:100]!a} cannot be a person's name: {principals.ALLOWED_NAMES}")
    return name
