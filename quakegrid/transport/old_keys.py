"""Ends what still runs on connections of an authkey that does not count any more.

A certificate is checked when a connection is made, so a connection outlives the key by which it was made.
While there is but one authkey, this costs a call nothing. Runs in the event loop of its service.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import grpc

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.access.principals import PEOPLE
from quakegrid.access.proofs import ClusterKeys, Keyring, Proof
from quakegrid.transport import error_details
from quakegrid.transport.credentials import Signer

# How often streams are looked at.
LOOK_S = 2.0
# Certificates whose signer is remembered; more are looked at again.
MOST_KNOWN = 10_000
# Told to people whose credential is of an old key that still counts: until when, in seconds since 1970.
OLD_UNTIL = "quakegrid-old-key-until"
_STREAMS = ("unary_stream", "stream_unary", "stream_stream")
_WORDS = (
    "the authkey of the cluster was changed, and the time in which the old one counted is over: copy the new "
    "one (`quakegrid key status` on the master says which), or get a new credential from an admin"
)


class OldKeyCheck(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses calls on connections of an old authkey; must come before interceptors that run servicers.

    Args:
        proof: of the service. One with a certificate in place of the authkey refuses nobody here.
        clock: seconds since 1970.
    """

    def __init__(self, proof: Proof, clock: Callable[[], float] = time.time) -> None:
        self._proof, self._clock = proof, clock
        self._first = proof.keys if isinstance(proof, Keyring) else None
        self._signer = Signer(proof) if isinstance(proof, Keyring) else None
        # By whom certificates were signed, and for which keys this was found out.
        self._known: dict[bytes, bool] = {}
        self._known_for = self._first
        self._handlers: dict[str, Any] = {}
        self._streams: dict[asyncio.Task[Any], Any] = {}
        self._cut: set[asyncio.Task[Any]] = set()
        self._is_looking = False

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Pass a call on, with the check before it if there was another key."""
        handler = await continuation(handler_call_details)
        if handler is None or self._first is None:
            return handler
        if handler.unary_unary is not None:
            return self._checked(handler) if self._was_changed() else handler
        self._look()
        method = str(handler_call_details.method)
        if method not in self._handlers:
            self._handlers[method] = self._watched(handler)
        return self._handlers[method]

    @property
    def _keys(self) -> ClusterKeys:
        assert isinstance(self._proof, Keyring), "of services with the authkey"
        return self._proof.keys

    def _was_changed(self) -> bool:
        """Whether a connection may have been made by another key."""
        return self._keys is not self._first or bool(self._keys.old)

    def _is_over(self) -> bool:
        """Whether there was another key that does not count any more."""
        return self._was_changed() and not self._keys.has_old(self._clock())

    def _is_old(self, context: Any) -> bool:
        """Whether the certificate of a call's connection is not of the present key."""
        assert self._signer is not None, "of services with the authkey"
        if self._known_for is not self._keys or len(self._known) >= MOST_KNOWN:
            self._known.clear()
            self._known_for = self._keys
        (certificate,) = context.auth_context()["x509_pem_cert"]
        if certificate not in self._known:
            self._known[certificate] = self._signer.authority.has_signed(certificate)
        return not self._known[certificate]

    def _checked(self, handler: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            if self._is_old(context):
                if self._is_over():
                    error = errors.CredentialError(_WORDS)
                    await error_details.abort(context, grpc.StatusCode.UNAUTHENTICATED, error)
                if _is_person(context):
                    context.set_trailing_metadata(((OLD_UNTIL, f"{self._keys.old_until_s:.0f}"),))
            return await handler.unary_unary(request, context)

        return handler._replace(unary_unary=call)

    def _watched(self, handler: Any) -> Any:
        """A handler of streams whose calls are known, so that they can be ended."""
        (kind,) = [each for each in _STREAMS if getattr(handler, each) is not None]
        behaviour = getattr(handler, kind)
        is_generator = inspect.isasyncgenfunction(behaviour)
        return handler._replace(
            **{kind: self._generator(behaviour) if is_generator else self._call(behaviour)}
        )

    def _call(self, behaviour: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(request: Any, context: Any) -> Any:
            task = self._enter(context)
            try:
                return await behaviour(request, context)
            except asyncio.CancelledError:
                if not self._was_cut(task):
                    raise
                await _break(context)
            finally:
                self._streams.pop(task, None)

        return call

    def _generator(
        self, behaviour: Callable[[Any, Any], AsyncGenerator[Any, None]]
    ) -> Callable[[Any, Any], AsyncGenerator[Any, None]]:
        async def stream(request: Any, context: Any) -> AsyncGenerator[Any, None]:
            task = self._enter(context)
            responses = behaviour(request, context)
            try:
                async for response in responses:
                    yield response
            except asyncio.CancelledError:
                if not self._was_cut(task):
                    raise
                await _break(context)
            finally:
                self._streams.pop(task, None)
                await responses.aclose()

        return stream

    def _enter(self, context: Any) -> asyncio.Task[Any]:
        task = asyncio.current_task()
        assert task is not None, "gRPC gives each call a task"
        self._streams[task] = context
        return task

    def _was_cut(self, task: asyncio.Task[Any]) -> bool:
        """Whether a cancellation was ours, which ends here."""
        if task not in self._cut:
            return False
        self._cut.discard(task)
        task.uncancel()
        return True

    def _look(self) -> None:
        """Begin to look at the streams, again and again, if that is not done."""
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._is_looking = False
        if self._is_over():
            for task, context in list(self._streams.items()):
                if task not in self._cut and self._is_old(context):
                    self._cut.add(task)
                    task.add_done_callback(self._cut.discard)
                    task.cancel()
        if self._streams:
            self._look()


def _is_person(context: Any) -> bool:
    names = context.peer_identities() or ()
    principal = principals.from_names(name.decode(errors="replace") for name in names)
    return principal is not None and principal.role in PEOPLE


async def _break(context: Any) -> None:
    """End a stream as a broken connection does: who has a newer certificate comes back with it."""
    error = errors.PeerUnreachableError(_WORDS)
    await error_details.abort(context, grpc.StatusCode.UNAVAILABLE, error)
