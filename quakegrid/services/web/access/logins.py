"""Who shows a cookie or a token: asked of the dbserver, and remembered for a moment.

The dbserver tells when something was revoked. Then what is remembered is asked again, and event streams of
sessions that count no more end. While it does not answer, what was known counts for a minute. For one event
loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import time
from collections.abc import AsyncIterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import grpc

from quakegrid import errors
from quakegrid.access import web_tokens
from quakegrid.access.principals import PEOPLE, PrincipalRole
from quakegrid.access.proofs import KeyProof
from quakegrid.api.v1 import people_pb2, people_pb2_grpc
from quakegrid.clients import retries
from quakegrid.clients.dbserver.credential_watch import COUNTS_ALONE_S
from quakegrid.internal.v1 import web_logins_pb2, web_logins_pb2_grpc
from quakegrid.services.web.callers import Caller, Way
from quakegrid.services.web.service_link import ServiceLink
from quakegrid.transport.keys import web_token_keys

# Of a session: at most, and without use.
SESSION_LIFE = datetime.timedelta(days=7)
SESSION_IDLE = datetime.timedelta(hours=12)
# How long an answer counts while nothing was revoked. By these questions the dbserver notes that a session is
# used.
FRESH_S = 30.0
MOST_REMEMBERED = 10_000
_ROLES: dict[int, PrincipalRole] = {
    people_pb2.PersonRole.Value(f"PERSON_ROLE_{role.name}"): PrincipalRole(role) for role in PEOPLE
}
_NUMBERS = {role: people_pb2.PersonRole.ValueType(number) for number, role in _ROLES.items()}


def _role(number: int) -> PrincipalRole:
    """A role; one of a newer dbserver that we do not know is a user's."""
    return _ROLES.get(number, PrincipalRole.USER)


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    checked_s: float
    # By the clock of the day.
    until_s: float


class Stream(Protocol):
    """What ends with the session that it belongs to."""

    def end(self) -> None:
        """End it, soon."""


class Logins:
    """Sessions and tokens, as the dbserver knows them.

    Args:
        dbserver: the connection.
        proof: the cluster's secret, which has signed them.
    """

    def __init__(self, dbserver: ServiceLink, proof: KeyProof) -> None:
        self._dbserver, self._proof = dbserver, proof
        self._known: dict[str, _Known] = {}
        self._streams: dict[str, set[Stream]] = {}
        self._is_followed = False
        # Counts what was heard, so that an answer from before is not remembered.
        self._turn = 0
        self._fresh_after_s = 0.0
        self._bell = asyncio.Event()

    # --- who asks

    async def find(self, token: str) -> Caller | None:
        """Who shows a token or a cookie; None if it is none of this cluster, or counts no more.

        Raises:
            PeerUnreachableError: nobody can say.
        """
        if not web_tokens.is_genuine(token, web_token_keys.known_keys(self._proof, time.time())):
            return None
        return await self._find(web_tokens.id_of(token))

    async def _find(self, token_id: str) -> Caller | None:
        known, now_s = self._known.get(token_id), time.monotonic()
        age_s = now_s - known.checked_s if known is not None else 0.0
        if known is not None and time.time() >= known.until_s:
            known = None
        if known is not None and self._is_fresh(known, now_s):
            return known.caller
        turn = self._turn
        try:
            found = await self._ask(web_logins_pb2.FindWebCallerRequest(token_id=token_id))
        except errors.NotFoundError:
            self._known.pop(token_id, None)
            return None
        except errors.PeerUnreachableError:
            if known is not None and age_s < COUNTS_ALONE_S:
                return known.caller
            raise
        is_session = found.kind == people_pb2.WEB_TOKEN_KIND_SESSION
        caller = Caller(None, found.name, _role(found.role), Way.COOKIE if is_session else Way.TOKEN)
        if turn == self._turn:  # else it may have been revoked meanwhile
            self._remember(
                token_id, _Known(caller, now_s, found.end_time.ToDatetime(datetime.UTC).timestamp())
            )
        return caller

    async def role_of(self, name: str) -> PrincipalRole:
        """What a person may do of whom a proxy speaks; a user if the cluster does not know the person.

        Raises:
            NotAllowedError: the person was shut out.
            PeerUnreachableError: nobody can say.
        """
        key = f"name {name}"
        known, now_s = self._known.get(key), time.monotonic()
        if known is not None and self._is_fresh(known, now_s):
            return known.caller.role
        turn = self._turn
        try:
            role = _role((await self._ask(web_logins_pb2.FindWebCallerRequest(name=name))).role)
        except errors.NotFoundError:
            role = PrincipalRole.USER
        if turn == self._turn:
            self._remember(key, _Known(Caller(None, name, role, Way.PROXY), now_s, float("inf")))
        return role

    async def _ask(
        self, request: web_logins_pb2.FindWebCallerRequest
    ) -> web_logins_pb2.FindWebCallerResponse:
        return await self._dbserver.call(self._stub.FindWebCaller, request)

    def _is_fresh(self, known: _Known, now_s: float) -> bool:
        """Whether nothing was revoked since the dbserver was asked, and that is not long ago."""
        return self._is_followed and known.checked_s > max(self._fresh_after_s, now_s - FRESH_S)

    def _remember(self, key: str, known: _Known) -> None:
        self._known.pop(key, None)
        self._known[key] = known
        if len(self._known) > MOST_REMEMBERED:
            del self._known[next(iter(self._known))]

    # --- login and logout

    async def check_password(self, name: str, password: str, address: str) -> PrincipalRole:
        """What a person may do who gives this password.

        Raises:
            NotAllowedError: the name or the password is wrong.
            TooManyTriesError: somebody has to wait.
            PeerUnreachableError: nobody can say.
        """
        request = web_logins_pb2.CheckPasswordRequest(login_name=name, password=password, address=address)
        return _role((await self._dbserver.call(self._stub.CheckPassword, request)).role)

    async def open_session(self, name: str, role: PrincipalRole, way: str) -> str:
        """Begin a session of a person; returns the text for the cookie.

        Raises:
            QuakeGridError: it cannot be stored.
        """
        return await self._open(web_logins_pb2.OpenWebSessionRequest(name=name, role=_NUMBERS[role], way=way))

    async def open_by_link(self, token: str) -> str:
        """Begin the session of whoever shows a token for one login; returns the text for the cookie.

        Raises:
            NotAllowedError: it does not count.
        """
        if not web_tokens.is_genuine(token, web_token_keys.known_keys(self._proof, time.time())):
            raise errors.NotAllowedError("the link is not complete, or is of another cluster")
        request = web_logins_pb2.OpenWebSessionRequest(token_id=web_tokens.id_of(token), way="link")
        return await self._open(request)

    async def _open(self, request: web_logins_pb2.OpenWebSessionRequest) -> str:
        request.life.FromTimedelta(SESSION_LIFE)
        request.idle_timeout.FromTimedelta(SESSION_IDLE)
        return (await self._dbserver.call(self._stub.OpenWebSession, request)).token

    async def end(self, token: str) -> None:
        """End a session, with its streams.

        Raises:
            PeerUnreachableError: the dbserver does not answer, so it goes on.
        """
        if not web_tokens.is_genuine(token, web_token_keys.known_keys(self._proof, time.time())):
            return
        token_id = web_tokens.id_of(token)
        await self._dbserver.call(
            self._stub.EndWebSession, web_logins_pb2.EndWebSessionRequest(token_id=token_id)
        )
        self._known.pop(token_id, None)
        self._end_streams(token_id)

    # --- what ends

    @contextlib.contextmanager
    def holding(self, token: str, stream: Stream) -> Iterator[None]:
        """Let a stream end when the session of its token counts no more."""
        token_id = web_tokens.id_of(token)
        self._streams.setdefault(token_id, set()).add(stream)
        try:
            yield
        finally:
            streams = self._streams[token_id]
            streams.discard(stream)
            if not streams:
                del self._streams[token_id]

    async def follow_source(self) -> None:
        """Hear of what is revoked, and look at the sessions of streams, for ever."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(retries.follow(self._watch, self._take, self._lose))
            parts.create_task(self._look_for_ever())

    def _watch(self) -> AsyncIterable[people_pb2.WatchCredentialsResponse]:
        stub = people_pb2_grpc.PeopleStub(self._dbserver.open())
        return stub.WatchCredentials(people_pb2.WatchCredentialsRequest())

    def _take(self, _response: people_pb2.WatchCredentialsResponse) -> None:
        self._is_followed = True
        self._turn += 1
        self._fresh_after_s = time.monotonic()
        self._bell.set()

    def _lose(self, _failure: grpc.RpcError | None) -> None:
        self._is_followed = False

    async def _look_for_ever(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FRESH_S):
                    await self._bell.wait()
            self._bell.clear()
            for token_id in list(self._streams):
                with contextlib.suppress(errors.QuakeGridError):
                    if await self._find(token_id) is None:
                        self._end_streams(token_id)

    def _end_streams(self, token_id: str) -> None:
        for stream in list(self._streams.get(token_id, ())):
            stream.end()

    @property
    def _stub(self) -> web_logins_pb2_grpc.WebLoginsAsyncStub:
        return web_logins_pb2_grpc.WebLoginsStub(self._dbserver.open())
