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
from quakegrid.access.proofs import Keyring, Proof
from quakegrid.transport import error_details
from quakegrid.transport.credentials import Signer

# How often streams are looked at.
LOOK_S = 2.0
# Certificates whose signer is remembered; more are looked at again.
MOST_KNOWN = 10_000
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
            return self._checked(handler) if self._is_over() else handler
        self._look()
        method = str(handler_call_details.method)
        if method not in self._handlers:
            self._handlers[method] = self._watched(handler)
        return self._handlers[method]

    def _is_over(self) -> bool:
        """Whether there was another key that does not count any more."""
        assert isinstance(self._proof, Keyring), "of services with the authkey"
        keys = self._proof.keys
        return (keys is not self._first or bool(keys.old)) and not keys.has_old(self._clock())

    def _is_old(self, context: Any) -> bool:
        """Whether the certificate of a call's connection is not of the present key."""
        assert isinstance(self._proof, Keyring), "of services with the authkey"
        assert self._signer is not None, "as above"
        if self._known_for is not self._proof.keys or len(self._known) >= MOST_KNOWN:
            self._known.clear()
            self._known_for = self._proof.keys
        (certificate,) = context.auth_context()["x509_pem_cert"]
        if certificate not in self._known:
            self._known[certificate] = self._signer.authority.has_signed(certificate)
        return not self._known[certificate]

    def _checked(self, handler: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            if self._is_old(context):
                error = errors.CredentialError(_WORDS)
                await error_details.abort(context, grpc.StatusCode.UNAUTHENTICATED, error)
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


async def _break(context: Any) -> None:
    """End a stream as a broken connection does: who has a newer certificate comes back with it."""
    error = errors.PeerUnreachableError(_WORDS)
    await error_details.abort(context, grpc.StatusCode.UNAVAILABLE, error)
