"""Which credentials count, in memory: asked at each call of a person or a node, and told to other services.

Everything happens in the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.access.principals import Principal, PrincipalRole, certified_by
from quakegrid.services.dbserver.people.listed import Listed
from quakegrid.transport import callers

# Every broker and every agent may be one.
MAX_WATCHERS = 10_000


class ValidCredentials:
    """The credentials that count. Made in the event loop.

    Args:
        listed: those of the database.
    """

    def __init__(self, listed: Listed) -> None:
        self._listed, self._turn = listed, 0
        self._by_nodes = _beginnings(listed)
        self._changed = asyncio.Event()
        self._watcher_count = 0
        self._is_closed = False

    async def doubt(self, principal: Principal) -> errors.QuakeGridError | None:
        """Why the credential of a person, a node or a driver does not count; None if it does."""
        if principal.role is PrincipalRole.DRIVER:
            is_doubtful = certified_by(principal) in self._by_nodes
        else:
            is_doubtful = principal.credential_id not in self._listed.ids
        return callers.revoked(principal) if is_doubtful else None

    @property
    def ids(self) -> frozenset[str]:
        """Of all credentials of people and nodes that count."""
        return self._listed.ids

    @property
    def next_end_s(self) -> float | None:
        """When the next certificate of a node ends, in seconds since 1970."""
        return self._listed.next_end_s

    def replace(self, listed: Listed, turn: int) -> None:
        """Take what a commit has left.

        Args:
            listed: all that counts.
            turn: counts the commits; an older one than the last is too late.
        """
        if turn > self._turn:
            self._listed, self._turn = listed, turn
            self._by_nodes = _beginnings(listed)
            self._wake()

    def close(self) -> None:
        """Send all watchers away."""
        self._is_closed = True
        self._wake()

    async def watch(self) -> AsyncGenerator[Listed, None]:
        """What counts, now and after each change.

        Raises:
            PeerUnreachableError: the dbserver is stopping.
            StateError: too many watch.
        """
        if self._watcher_count >= MAX_WATCHERS:
            raise errors.StateError(f"{MAX_WATCHERS} services watch the credentials, which is the most")
        self._watcher_count += 1
        try:
            while not self._is_closed:
                changed = self._changed
                yield self._listed
                await changed.wait()
            raise errors.PeerUnreachableError("the dbserver is stopping")
        finally:
            self._watcher_count -= 1

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _beginnings(listed: Listed) -> frozenset[str]:
    """How the ids of drivers begin that nodes have had certified which are shut out."""
    return frozenset(each[: principals.NODE_PART] for each in listed.shut_out_ids)
