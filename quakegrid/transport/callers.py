"""Who calls: the principal of each call, checked against the table of permissions before a servicer runs.

`CallerCheck` is the one interceptor that decides this, in every service. What it costs a call of a service is
a look-up by the names in the peer's certificate, which is read once. A stream is checked when it begins; that
of a person, a node or a driver also while it runs, since their credential may be revoked.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Protocol

import grpc

from quakegrid import errors
from quakegrid.access import permissions, principals
from quakegrid.access.permissions import Permission, Subject, Verdict
from quakegrid.access.principals import PEOPLE, SERVICE, Principal, PrincipalRole
from quakegrid.transport import audited_calls, certificates, error_details
from quakegrid.transport.audited_calls import Auditor

# The user whose job this is; None if there is no such job.
OwnerOfJob = Callable[[int], Awaitable[str | None]]
# The principals whose certificates are remembered; more are read again.
MOST_KNOWN = 10_000
# How often a stream of anybody but a service is checked again.
STREAM_CHECK_S = 5.0
_END = object()
_KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
# Whose credentials the database lists, so that they can be revoked.
_LISTED = frozenset({*PEOPLE, PrincipalRole.NODE})
# Also those that end with the certificate of the node that has had them certified.
_DOUBTFUL = _LISTED | {PrincipalRole.DRIVER}
_CODES: tuple[tuple[type[errors.QuakeGridError], grpc.StatusCode], ...] = (
    (errors.NotAllowedError, grpc.StatusCode.PERMISSION_DENIED),
    (errors.CredentialError, grpc.StatusCode.UNAUTHENTICATED),
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    # UNAVAILABLE would say that the service itself does not answer.
    (errors.PeerUnreachableError, grpc.StatusCode.ABORTED),
)
# Somebody may not do what they tried. Others made a mistake, or a service did not answer.
_REFUSALS = frozenset({grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED})
_caller: ContextVar[Principal] = ContextVar("caller")


def current() -> Principal:
    """The principal that made the call which this code answers.

    Raises:
        LookupError: no call is being answered here, or nothing has checked it.
    """
    return _caller.get()


def enter(principal: Principal) -> None:
    """Let `current` be this principal for what follows in this task, and for the tasks that it starts."""
    _caller.set(principal)


class Standing(Protocol):
    """Knows which credentials of people and nodes were revoked."""

    async def doubt(self, principal: Principal) -> errors.QuakeGridError | None:
        """Why the credential of a person, a node or a driver does not count; None if it does."""


class CallerCheck(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses calls that the table does not allow; must come before interceptors that run servicers.

    Args:
        owner_of_job: asks whose a job is.
        standing: asks which credentials were revoked.
        clock: seconds since 1970.
        auditor: is told of audited calls and of refusals; None for nobody.
        node: the name of the node whose agent checks its callers; empty for other services.
    """

    def __init__(
        self,
        owner_of_job: OwnerOfJob,
        standing: Standing,
        clock: Callable[[], float] = time.time,
        auditor: Auditor | None = None,
        *,
        node: str = "",
    ) -> None:
        self._owner_of_job, self._standing, self._clock = owner_of_job, standing, clock
        self._auditor, self._node = auditor, node
        self._handlers: dict[str, Any] = {}
        self._known: dict[bytes, Principal] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the check before the handler that gRPC found for a call, once for each method."""
        method = str(handler_call_details.method)
        checked = self._handlers.get(method)
        if checked is None:
            handler = await continuation(handler_call_details)
            if handler is None:  # methods that do not exist would fill the memory
                return None
            checked = self._handlers[method] = self._guard(method, handler, permissions.of(method))
        return checked

    def _guard(self, method: str, handler: Any, permission: Permission) -> Any:
        guarded: dict[str, Any] = {}
        refuse = _Refusing(method, self._auditor)
        for kind in _KINDS:
            behaviour = getattr(handler, kind)
            if behaviour is None:
                continue
            # Only one request can be asked what it is about.
            checked = permission if kind.startswith("unary") else replace(permission, own_roles=frozenset())
            if permission.is_audited and self._auditor is not None:
                behaviour = audited_calls.audited(method, behaviour, self._auditor, current)
            if inspect.isasyncgenfunction(behaviour):
                guarded[kind] = self._guarded_stream(behaviour, checked, refuse)
            else:
                assert inspect.iscoroutinefunction(behaviour), "it is answered in the event loop"
                is_stream = kind.endswith("stream")
                guarded[kind] = self._guarded_call(behaviour, checked, refuse, is_stream=is_stream)
        return handler._replace(**guarded)

    def _guarded_call(
        self,
        behaviour: Callable[[Any, Any], Awaitable[Any]],
        permission: Permission,
        refuse: _Refusing,
        *,
        is_stream: bool,
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(request: Any, context: Any) -> Any:
            principal = self._principal_of(context)
            refused = None
            if principal is None or principal.role is not PrincipalRole.SERVICE:
                refused = await self._refusal(principal, permission, request)
            if refused is None:
                assert principal is not None, "nobody is refused"
                enter(principal)
                recheck = self._recheck(principal) if is_stream else None
                if recheck is None:
                    return await behaviour(request, context)
                running = asyncio.ensure_future(behaviour(request, context))
                refused = await recheck.wait(running)
                if refused is None:
                    return running.result()
            aborting = refuse(principal, request, context, refused)
            del request, context, refused  # see quakegrid/services/dbserver/rpc/interceptor.py
            await aborting
            return None

        return call

    def _guarded_stream(
        self,
        behaviour: Callable[[Any, Any], AsyncGenerator[Any, None]],
        permission: Permission,
        refuse: _Refusing,
    ) -> Callable[[Any, Any], AsyncGenerator[Any, None]]:
        async def stream(request: Any, context: Any) -> AsyncGenerator[Any, None]:
            principal = self._principal_of(context)
            refused = None
            if principal is None or principal.role is not PrincipalRole.SERVICE:
                refused = await self._refusal(principal, permission, request)
            if refused is None:
                assert principal is not None, "nobody is refused"
                enter(principal)
                recheck = self._recheck(principal)
                async with contextlib.aclosing(behaviour(request, context)) as responses:
                    passed = responses if recheck is None else recheck.pass_on(responses)
                    async with contextlib.aclosing(passed):
                        async for response in passed:
                            yield response
                if recheck is None or recheck.doubt is None:
                    return
                refused = recheck.doubt
            aborting = refuse(principal, request, context, refused)
            del request, context, refused
            await aborting

        return stream

    def _principal_of(self, context: Any) -> Principal | None:
        """Who is at the other end of a call's connection; None if its certificate names nobody."""
        names: Sequence[bytes] = context.peer_identities() or ()
        key = names[0] if len(names) == 1 else b"\0".join(names)
        known = self._known.get(key)
        if known is None or (known is not SERVICE and known.until_s <= self._clock()):
            return self._read(key, names, context)  # a renewed certificate has the same names
        return known

    def _read(self, key: bytes, names: Sequence[bytes], context: Any) -> Principal | None:
        principal = principals.from_names(name.decode(errors="replace") for name in names)
        if principal is None:
            return None
        if principal.role is not PrincipalRole.SERVICE:
            (certificate,) = context.auth_context()["x509_pem_cert"]
            principal = replace(principal, until_s=certificates.until_s(certificate))
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[key] = principal
        return principal

    async def _refusal(
        self, principal: Principal | None, permission: Permission, request: Any
    ) -> errors.QuakeGridError | None:
        """Why a call is refused; None if it is not."""
        if principal is None:
            return errors.CredentialError("the certificate of the connection names nobody of this cluster")
        if doubt := await self._doubt(principal):
            return doubt
        verdict = permissions.judge(principal, permission)
        if verdict is Verdict.IF_OWN:
            return await self._refusal_of_others(principal, permission, request)
        if verdict is Verdict.NO:
            return errors.NotAllowedError(permissions.refusal(principal, permission))
        return None

    async def _doubt(self, principal: Principal) -> errors.QuakeGridError | None:
        """Why the credential of a principal does not count; None if it does."""
        if principal.until_s <= self._clock():
            return _has_ended(principal)
        is_doubtful = principal.role in _DOUBTFUL and not self._is_own_node(principal)
        return await self._standing.doubt(principal) if is_doubtful else None

    def _recheck(self, principal: Principal) -> _Recheck | None:
        """What looks at the credential behind a stream while it runs; None for services.

        A driver's stream goes on when its certificate ends: the driver has another one by then, for its next
        connection.
        """
        if principal.role in _LISTED:
            return _Recheck(self._doubt, principal)
        return _Recheck(self._standing.doubt, principal) if principal.role in _DOUBTFUL else None

    def _is_own_node(self, principal: Principal) -> bool:
        """Whether the node itself calls its agent, which needs nobody to list it."""
        return principal.role is PrincipalRole.NODE and principal.name == self._node

    async def _refusal_of_others(
        self, principal: Principal, permission: Permission, request: Any
    ) -> errors.QuakeGridError | None:
        assert permission.subject is not None, "the table says what can be one's own"
        owner: str | None
        if permission.subject is not Subject.JOB:
            owner = request.host if permission.subject is Subject.NODE else self._node
            what = f"the node {owner or 'here'}"
        else:
            what = f"job {request.job_id}"
            if request.job_id <= 0:
                return errors.NotFoundError(f"no job has the id {request.job_id}; ids start at 1")
            try:
                owner = await self._owner_of_job(request.job_id)
            except errors.QuakeGridError as exc:
                return exc.with_traceback(None)
        # The servicer says that there is no such job, or repeats its answer to an earlier request.
        if owner is None or permissions.owns(principal, permission.subject, owner):
            return None
        if permission.subject is not Subject.JOB:
            owner = ""
        return errors.NotAllowedError(permissions.refusal(principal, permission, what, owner))


class _Recheck:
    """Looks again and again whether the credential behind a stream still counts.

    Args:
        ask: why it does not count.
        principal: whose stream it is.
    """

    def __init__(
        self, ask: Callable[[Principal], Awaitable[errors.QuakeGridError | None]], principal: Principal
    ) -> None:
        self._ask, self._principal = ask, principal
        self._loop = asyncio.get_running_loop()
        self._due_s = self._loop.time() + STREAM_CHECK_S
        self.doubt: errors.QuakeGridError | None = None

    async def wait(self, step: asyncio.Future[Any]) -> errors.QuakeGridError | None:
        """Wait for a step of the stream; cancel it, and tell why, if the credential counts no more."""
        try:
            while not step.done():
                left_s = self._due_s - self._loop.time()
                if left_s > 0:
                    await asyncio.wait({step}, timeout=left_s)
                elif doubt := await self._ask(self._principal):
                    self.doubt = doubt
                    return doubt
                else:
                    self._due_s = self._loop.time() + STREAM_CHECK_S
        finally:  # also when the client leaves
            if not step.done():
                step.cancel()
                await asyncio.wait({step})
        return None

    async def pass_on(self, responses: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        """The responses, until there are no more or the credential does not count any more."""
        while True:
            step = asyncio.ensure_future(anext(responses, _END))
            if await self.wait(step) is not None or step.result() is _END:
                return
            yield step.result()


def asking_owner(told: str) -> str | None:
    """Whose jobs the present call may change; None for everybody's.

    Args:
        told: the user's name in the request, which counts if a service asks.
    """
    principal = current()
    return None if principal.is_staff else principal.asker(told)


def revoked(principal: Principal) -> errors.CredentialError:
    """The error for a credential that the cluster does not count."""
    return errors.CredentialError(
        f"the credential of {principal} was revoked, or the cluster's database does not know it; "
        f"{_remedy(principal)}"
    )


def _has_ended(principal: Principal) -> errors.CredentialError:
    ended = datetime.datetime.fromtimestamp(principal.until_s, datetime.UTC)
    return errors.CredentialError(
        f"the credential of {principal} ended on {ended:%Y-%m-%d %H:%M} UTC; {_remedy(principal)}"
    )


def _remedy(principal: Principal) -> str:
    """How a principal gets a credential that counts."""
    match principal.role:
        case PrincipalRole.NODE:
            return (
                f"an admin makes a token, `quakegrid token create --node --host {principal.name}`, and with "
                "it the node joins again: `agentctl join --token TOKEN`"
            )
        case PrincipalRole.DRIVER:
            return "the node that started it was shut out; run the calculation again, on another node"
        case PrincipalRole.TOKEN:
            return "an admin makes a new one: `quakegrid token create --node`"
        case _:
            return f"an admin makes a new one: `quakegrid user renew {principal.name}`"


class _Refusing:
    """Aborts calls of one method, and tells the audit log of those who may not make them."""

    def __init__(self, method: str, auditor: Auditor | None) -> None:
        self._method, self._auditor = method, auditor

    def __call__(
        self, principal: Principal | None, request: Any, context: Any, error: errors.QuakeGridError
    ) -> Awaitable[None]:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.UNKNOWN)
        if self._auditor is not None and code in _REFUSALS:
            about = audited_calls.about_call(self._method, request, context, principal)
            self._auditor.refused(principal, about, code, context)
        words = str(error)
        aborting: Awaitable[None] = context.abort(
            code, words, error_details.metadata(error.reason, code, words)
        )
        return aborting
