"""Answers that are sent before a request has come whole: what else comes is not waited for.

Without this, a client that sends two gigabytes to be told that one is too much would send both to the end.
What has come is thrown away for a moment, since a client whose bytes meet a closed port may lose the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

# What is thrown away after an answer, before the connection is closed.
LINGER_BYTES, LINGER_S = 4 << 20, 2.0
Message = MutableMapping[str, Any]


class EarlyAnswers:
    """Closes connections of requests that were answered early.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and _may_be_large(scope["headers"]):
            exchange = _Exchange(receive, send)
            await self._app(scope, exchange.receive, exchange.send)
        else:
            await self._app(scope, receive, send)


def _may_be_large(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and len(value) > 6)
        for name, value in headers
    )


class _Exchange:
    """One request with a large body, and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._is_whole = self._is_early = False

    async def receive(self) -> Message:
        """The next part of the request."""
        message = await self._receive()
        self._is_whole |= not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; after its last one, linger."""
        if message["type"] == "http.response.start":
            self._is_early = not self._is_whole
            if self._is_early:
                message = {**message, "headers": [*message.get("headers", []), (b"connection", b"close")]}
        if not self._is_early or message["type"] != "http.response.body" or message.get("more_body", False):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        await self._linger()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while left > 0 and not self._is_whole:
                    left -= len((await self.receive()).get("body", b""))
