"""Which credentials of people and nodes count, as the dbserver tells it: for services that have no database.

The watch begins with the first call of a person or a node, or when the service says so. While the dbserver
does not answer, what it told last counts for a minute; then nobody but services is let in. Runs in the event
loop of its service.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

import grpc

from quakegrid import errors
from quakegrid.access.principals import NODE_PART, Principal, PrincipalRole, certified_by
from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.clients import retries
from quakegrid.machine import service_life
from quakegrid.settings.config import Settings
from quakegrid.transport import callers, grpc_channels

# A person whose credential is new may be faster than the news of it.
NEWS_TIMEOUT_S = 2.0
FIRST_NEWS_TIMEOUT_S = 5.0
COUNTS_ALONE_S = 60.0
log = logging.getLogger("quakegrid.service")


class CredentialWatch:
    """Knows which credentials count; a `callers.Standing`.

    Args:
        settings: of the cluster.
        on_shut_out: called at first and after each change with the nodes that are shut out, and with the
            beginnings of the ids of drivers that such nodes have had certified.
    """

    def __init__(
        self,
        settings: Settings,
        on_shut_out: Callable[[frozenset[str], frozenset[str]], None] = lambda _hosts, _beginnings: None,
    ) -> None:
        self._settings, self._on_shut_out = settings, on_shut_out
        self._ids: frozenset[str] | None = None
        # How the ids of drivers begin that nodes have had certified which are shut out.
        self._by_nodes: frozenset[str] = frozenset()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # When the dbserver stopped to answer; None while it does.
        self._lost_s: float | None = None

    async def doubt(self, principal: Principal) -> errors.QuakeGridError | None:
        """Why the credential of a person, a node or a driver does not count; None if it does."""
        if principal.role is PrincipalRole.DRIVER:
            return callers.revoked(principal) if certified_by(principal) in self._by_nodes else None
        self.start()
        if await self._hears_of(principal.credential_id):
            return None
        if self._known() is None:
            return errors.PeerUnreachableError(
                f"the dbserver at {self._settings.dbserver_address} does not answer, so nobody here knows "
                "whether your credential was revoked; try again"
            )
        return callers.revoked(principal)

    def start(self) -> None:
        """Begin to watch, if that is not done."""
        if self._task is None:
            watching = retries.follow(self._open, self._take, self._lose)
            self._task = asyncio.get_running_loop().create_task(watching, name="credential watch")
            self._task.add_done_callback(service_life.must_not_fail)

    def close(self) -> None:
        """Watch no longer."""
        if self._task is not None:
            self._task.cancel()

    def _known(self) -> frozenset[str] | None:
        """The ids that count; None if it is too long ago that we heard of them."""
        lost_s = self._lost_s
        is_old = lost_s is not None and asyncio.get_running_loop().time() - lost_s > COUNTS_ALONE_S
        return None if is_old else self._ids

    async def _hears_of(self, credential_id: str) -> bool:
        """Whether a credential counts, or the next news say that it does."""
        timeout_s = FIRST_NEWS_TIMEOUT_S if self._known() is None else NEWS_TIMEOUT_S
        try:
            async with asyncio.timeout(timeout_s):
                while credential_id not in (self._known() or ()):
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _open(self) -> AsyncIterator[people_pb2.WatchCredentialsResponse]:
        """What the dbserver tells, over a connection of its own: its certificate is fresh."""
        address = self._settings.dbserver_address
        async with grpc_channels.open_aio_channel(address, self._settings.proof) as channel:
            stub = people_pb2_grpc.PeopleStub(channel)
            async for response in stub.WatchCredentials(people_pb2.WatchCredentialsRequest()):
                yield response

    def _take(self, response: people_pb2.WatchCredentialsResponse) -> None:
        self._ids, self._lost_s = frozenset(response.ids), None
        self._news.set()
        self._news = asyncio.Event()
        self._by_nodes = frozenset(each[:NODE_PART] for each in response.shut_out_ids)
        self._on_shut_out(frozenset(response.shut_out_nodes), self._by_nodes)

    def _lose(self, failure: grpc.RpcError | None) -> None:
        if failure is not None:
            log.info("credentials_not_heard reason=%s", failure.details())
        if self._lost_s is None:
            self._lost_s = asyncio.get_running_loop().time()
