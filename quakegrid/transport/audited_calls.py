"""Hands what people did, and what they were refused, to the audit log of the cluster.

`callers.CallerCheck` calls the auditor of its service after each audited call, and for each refusal. The
auditor makes a record, counts a peer that is refused again and again, and puts records where the service
keeps them: the dbserver into its database, any other service into a queue to the dbserver. Nothing here
waits, and no call that is not audited comes here. Everything happens in the event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol

import grpc

from quakegrid.access import audits
from quakegrid.access.audits import About, AuditRecord, RefusalCounts
from quakegrid.access.principals import Principal, PrincipalRole

# In the user agent of a command: the account of whoever gave it. Nothing proves it.
_TOLD = re.compile(r"\bas/([A-Za-z0-9_][A-Za-z0-9._-]{0,63})")
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class AuditSink(Protocol):
    """Where the records of a service go; in the event loop."""

    def put(self, record: AuditRecord) -> None:
        """Keep a record. Never waits, and never raises."""


class Auditor:
    """Makes the records of one service. Made in its event loop.

    Args:
        service: how records name it, such as "broker".
        sink: where they go.
        node: whose agent this is; empty for other services.
        clock: seconds since 1970.
    """

    def __init__(
        self, service: str, sink: AuditSink, *, node: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self._service, self._sink, self._node, self._clock = service, sink, node, clock
        self._refusals = RefusalCounts()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, principal: Principal | None, about: About, outcome: str, peer: str) -> None:
        """Keep what somebody did.

        Args:
            principal: who called; None if the certificate named nobody.
            about: what it was about.
            outcome: "OK" or the name of gRPC's status code.
            peer: where the call came from, as gRPC writes it.
        """
        if self._node and not about.node:
            about = replace(about, node=self._node)
        record = audits.record_of(
            principal, about, outcome, time_s=self._clock(), peer=peer, service=self._service
        )
        self.take(record)

    def note_account(self, name: str, uid: int, about: About, outcome: str) -> None:
        """Keep what an account of this machine asked for at a unix socket.

        Args:
            name: of the account, as the kernel knows it.
            uid: its number.
            about: what it was about.
            outcome: "OK" or the name of gRPC's status code.
        """
        about = replace(about, node=self._node)
        self.take(AuditRecord(self._clock(), "account", name, about, outcome, f"uid {uid}", self._service))

    def take(self, record: AuditRecord) -> None:
        """Keep a record, or count it if its peer failed often."""
        if record.outcome == audits.OK:
            self._sink.put(record)
            return
        now_s = asyncio.get_running_loop().time()
        written = self._refusals.take(record, now_s)
        if written is not None:
            self._sink.put(written)
        if self._timer is None:
            self._schedule()

    def refused(self, principal: Principal | None, about: About, code: grpc.StatusCode, context: Any) -> None:
        """Keep a call that was refused before anything was done."""
        self.note(principal, about, code.name, context.peer())

    def close(self) -> None:
        """Put the counts where records go; later records still get there."""
        if self._timer is not None:
            self._timer.cancel()
        for record in self._refusals.flush():
            self._sink.put(record)

    def _schedule(self) -> None:
        due_s = self._refusals.next_deadline_s()
        self._timer = None if due_s is None else asyncio.get_running_loop().call_at(due_s, self._on_time)

    def _on_time(self) -> None:
        for record in self._refusals.due(asyncio.get_running_loop().time()):
            self._sink.put(record)
        self._schedule()


@dataclass(frozen=True, slots=True)
class AuditedCall:
    """A call whose servicer tells itself what is to be kept, since it does many things."""

    auditor: Auditor
    principal: Principal
    peer: str

    def note(self, about: About, code: int) -> None:
        """Keep one thing that was done in the call.

        Args:
            about: what it was about.
            code: gRPC's number of the outcome.
        """
        self.auditor.note(self.principal, about, _CODES.get(code, "UNKNOWN"), self.peer)


# Calls that do many things, each of which is audited or not.
_OF_MANY_ACTIONS = frozenset(
    {"/quakegrid.internal.v1.EngineCalls/Call", "/quakegrid.internal.v1.EngineCalls/CallStream"}
)
_call: ContextVar[AuditedCall | None] = ContextVar("audited_call", default=None)


def current() -> AuditedCall | None:
    """The call of many actions that this code answers; None if nobody audits it."""
    return _call.get()


def audited(
    method: str, behaviour: Callable[[Any, Any], Any], auditor: Auditor, who: Callable[[], Principal]
) -> Any:
    """The coroutine or generator that answers a call, with its record afterwards.

    Args:
        method: the full name of the call.
        behaviour: what answers it.
        auditor: of the service.
        who: the caller, asked while the call is answered.
    """
    if method in _OF_MANY_ACTIONS:
        return _with_actions(behaviour, auditor, who)
    if inspect.iscoroutinefunction(behaviour):
        return _with_record(method, behaviour, auditor, who)
    return _with_record_of_stream(method, behaviour, auditor, who)


def _with_actions(
    behaviour: Callable[[Any, Any], Awaitable[Any]], auditor: Auditor, who: Callable[[], Principal]
) -> Callable[[Any, Any], Awaitable[Any]]:
    def call(request: Any, context: Any) -> Awaitable[Any]:
        _call.set(AuditedCall(auditor, who(), context.peer()))
        return behaviour(request, context)

    async def answer(request: Any, context: Any) -> Any:
        answering = call(request, context)
        del request, context  # see quakegrid/services/dbserver/rpc/interceptor.py
        return await answering

    return answer


def _with_record(
    method: str,
    behaviour: Callable[[Any, Any], Awaitable[Any]],
    auditor: Auditor,
    who: Callable[[], Principal],
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: Any) -> Any:
        about = about_call(method, request, context, who())
        try:
            result = await behaviour(request, context)
        except BaseException:
            auditor.note(who(), about, _outcome(context, is_done=False), context.peer())
            del request, context
            raise
        auditor.note(who(), about, _outcome(context, is_done=True), context.peer())
        return result

    return answer


def _with_record_of_stream(
    method: str,
    behaviour: Callable[[Any, Any], AsyncGenerator[Any, None]],
    auditor: Auditor,
    who: Callable[[], Principal],
) -> Callable[[Any, Any], AsyncGenerator[Any, None]]:
    async def answer(request: Any, context: Any) -> AsyncGenerator[Any, None]:
        about = about_call(method, request, context, who())
        try:
            async for response in behaviour(request, context):
                yield response
        except BaseException:
            auditor.note(who(), about, _outcome(context, is_done=False), context.peer())
            del request, context
            raise
        auditor.note(who(), about, _outcome(context, is_done=True), context.peer())

    return answer


def about_call(method: str, request: Any, context: Any, principal: Principal | None) -> About:
    """What a call is about, and for whom a command with the authkey says that it asks."""
    about = audits.about_request(method, request)
    if about.told or principal is None or principal.role is not PrincipalRole.SERVICE:
        return about
    return replace(about, told=told(context.invocation_metadata() or ()))


def told(metadata: Any) -> str:
    """The account that a command names in the metadata of its calls; empty if none."""
    found = next((_TOLD.search(str(value)) for key, value in metadata if key == "user-agent"), None)
    return found[1] if found else ""


def _outcome(context: Any, *, is_done: bool) -> str:
    """The name of the status with which a call ended."""
    code = context.code()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else int(code or 0)
    if number or is_done:
        return _CODES.get(number, "UNKNOWN")
    return "CANCELLED" if context.cancelled() else "UNKNOWN"
