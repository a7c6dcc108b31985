"""Follows a stream of a service for ever, also after the service was started again."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterable, Callable
from typing import Any, TypeVar

import grpc

from quakegrid.clients.backoff import Backoff
from quakegrid.services.web.live.feed import Feed

log = logging.getLogger("quakegrid.web")
Response = TypeVar("Response")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0


async def follow(
    open_stream: Callable[[], AsyncIterable[Response]],
    take: Callable[[Response], None],
    lose: Callable[[grpc.StatusCode | None], None],
) -> None:
    """Take what comes on a stream, and open another when it ends.

    Args:
        open_stream: opens it.
        take: called with each response.
        lose: called at each end, with gRPC's code, None for an end in order.
    """
    pauses = Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)
    while True:
        code = None
        try:
            async for response in open_stream():
                pauses.reset()
                take(response)
        except grpc.RpcError as exc:
            code = exc.code()
        lose(code)
        await asyncio.sleep(pauses.next_s())


class FollowedFeed(Feed):
    """A feed whose source is a stream of a service; it tells its readers whether the service answers.

    Args:
        name: of what is followed, for the log.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.is_connected = False

    async def follow_source(self) -> None:
        """Follow the service for ever."""
        await follow(self._open, self._take, self._lose)

    def _open(self) -> AsyncIterable[Any]:
        """Open the stream."""
        raise NotImplementedError

    def _take(self, response: Any) -> None:
        """Take what came on it."""
        raise NotImplementedError

    def _lose(self, code: grpc.StatusCode | None) -> None:
        if code is not None and self.is_connected:
            log.warning("%s_not_followed code=%s", self._name, code.name)
        self._connected(is_connected=False)

    def _connected(self, *, is_connected: bool) -> None:
        if is_connected != self.is_connected:
            self.is_connected = is_connected
            self.tell("connection", json.dumps({"is_connected": is_connected}))
