"""Checks passwords, few at a time: a name that nobody has takes the same work as a wrong password."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, TypeVar

from quakegrid import errors
from quakegrid.access.principals import PrincipalRole
from quakegrid.services.dbserver.logins import hashes
from quakegrid.services.dbserver.logins.limits import LoginLimits
from quakegrid.services.dbserver.logins.password_rows import PasswordRow

T = TypeVar("T")
# Hashes that are computed at once, with 19 MB each, and checks that may wait for them.
RUNNING_COUNT, WAITING_COUNT = 2, 16
LONGEST_INPUT = 256
logger = logging.getLogger("dbserver")


class PasswordChecks:
    """Checks passwords within limits. For one event loop.

    Args:
        find: the stored password of a name; called in a thread.
        keep: stores a better hash after a login.
        hasher: computes hashes.
        clock: monotonic.
    """

    def __init__(
        self,
        find: Callable[[str], PasswordRow | None],
        keep: Callable[[PasswordRow], Awaitable[None]],
        hasher: Hasher = hashes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._keep, self._hasher, self._clock = find, keep, hasher, clock
        self._limits = LoginLimits()
        self._threads = ThreadPoolExecutor(RUNNING_COUNT, thread_name_prefix="password")
        self._count = 0

    async def check(self, name: str, password: str, address: str) -> PrincipalRole:
        """Whether a password is a person's; returns what the person may do.

        Args:
            name: as somebody gives it.
            password: as somebody gives it.
            address: from where.
        Raises:
            NotAllowedError: one of them is wrong.
            TooManyTriesError: somebody has to wait.
        """
        name, password = name[:LONGEST_INPUT], password[: LONGEST_INPUT + 1]
        self._refuse_flood()
        if wait_s := self._limits.begin(name, address[:LONGEST_INPUT], self._clock()):
            raise errors.TooManyTriesError(
                f"too many wrong passwords; wait {math.ceil(wait_s)} s and try again"
            )
        found = await self._in_thread(lambda: self._judge(name, password))
        if found is None:
            # Without the name, which may be a password that was typed into the wrong field.
            raise errors.NotAllowedError("the name or the password is wrong")
        self._limits.succeed(name, address[:LONGEST_INPUT])
        if self._hasher.is_old(found.hash):
            hashed = await self._in_thread(lambda: self._hasher.make(password))
            await self._keep(replace(found, hash=hashed))
        return PrincipalRole(found.role)

    async def make(self, password: str) -> str:
        """The hash of a new password.

        Raises:
            TooManyTriesError: too many hashes are computed.
        """
        self._refuse_flood()
        made: str = await self._in_thread(lambda: self._hasher.make(password))
        return made

    def close(self) -> None:
        """Compute no more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _judge(self, name: str, password: str) -> PasswordRow | None:
        """In a thread: the row of a name whose password is right. One hash is computed in any case."""
        found = self._find(name)
        is_known = found is not None and found.hash != ""
        is_right = self._hasher.is_right(password, found.hash if found and is_known else hashes.NOBODY)
        if found is not None and is_known and not is_right:
            logger.info("password_wrong name=%s", found.name)
        return found if is_known and is_right else None

    def _refuse_flood(self) -> None:
        if self._count >= RUNNING_COUNT + WAITING_COUNT:
            raise errors.TooManyTriesError(
                "too many people log in at this moment; try again in a few seconds"
            )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._count -= 1


class Hasher(Protocol):
    """What computes hashes."""

    def make(self, password: str) -> str:
        """The hash of a new password."""

    def is_right(self, password: str, expected: str) -> bool:
        """Whether a password has this hash."""

    def is_old(self, expected: str) -> bool:
        """Whether a right password is to be stored by another hash."""
