"""Passwords: set, taken away, checked. For the dbserver's event loop."""

from __future__ import annotations

import asyncio
import logging
import time

from quakegrid import errors
from quakegrid.access.principals import PrincipalRole
from quakegrid.services.dbserver.logins import book, hashes, password_rows, token_rows
from quakegrid.services.dbserver.logins.checks import PasswordChecks
from quakegrid.services.dbserver.logins.password_rows import PasswordRow
from quakegrid.services.dbserver.logins.token_rows import WebTokenKind
from quakegrid.services.dbserver.people.listed import CredentialWrites
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.writer import Writer

SHORTEST_PASSWORD, LONGEST_PASSWORD = 8, 256
logger = logging.getLogger("dbserver")


class Passwords:
    """The passwords of people.

    Args:
        readers: connections that read.
        writer: writes what nobody else has to hear of.
        writes: changes what counts, and tells all services.
    """

    def __init__(self, readers: Readers, writer: Writer, writes: CredentialWrites) -> None:
        self._readers, self._writer, self._writes = readers, writer, writes
        self.checks = PasswordChecks(self._find_password, self._keep_hash)

    async def set(self, name: str, password: str, role: PrincipalRole | None, changer: str) -> PrincipalRole:
        """Set or take away a person's password, and end the person's sessions.

        Raises:
            UsageError: the name or the password is not allowed.
            NotFoundError: nobody has the name, and no role is given.
            StateError: the person has another role.
        """
        book.checked(name)
        if password and not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise errors.UsageError(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")
        hashed = await self.checks.make(password) if password else ""
        now_s = time.time()

        def store(session: SqlSession) -> PrincipalRole:
            known = _known_role(session, name, now_s)
            if known is None and role is None:
                raise errors.NotFoundError(
                    f"nobody here is called {name}; `quakegrid user add {name} --password` adds them"
                )
            if known is not None and role not in (None, known):
                raise errors.StateError(
                    f"{name} has the role {known}; `quakegrid user role {name} {role}` changes the role"
                )
            found = known or role
            assert found is not None, "one of them is there"
            password_rows.store(session, PasswordRow(name, found, hashed), changer, now_s)
            token_rows.end_all(session, name, changer, now_s, (WebTokenKind.SESSION, WebTokenKind.LINK))
            return found

        found = await self._writes.do(store)
        logger.info("password_set name=%s by=%s is_empty=%s", name, changer, not password)
        return found

    def _find_password(self, name: str) -> PasswordRow | None:
        return password_rows.find(self._readers.session(), name)

    async def _keep_hash(self, row: PasswordRow) -> None:
        """Store a better hash of the same password."""

        def store(session: SqlSession) -> None:
            found = password_rows.find(session, row.name)
            if found is not None and found.hash and hashes.is_old(found.hash):
                password_rows.store(session, row, "the first login", time.time())

        await asyncio.wrap_future(self._writer.submit(store))


def _known_role(session: SqlSession, name: str, now_s: float) -> PrincipalRole | None:
    """What a person may do, or did when the last password was taken away."""
    role = password_rows.role_of(session, name, now_s)
    row = password_rows.find(session, name)
    return role or (PrincipalRole(row.role) if row is not None else None)
