"""A feed whose source is a stream of a service; it goes on after the service was started again."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterable
from typing import Any

import grpc

from quakegrid.clients import retries
from quakegrid.services.web.live.feed import Feed

log = logging.getLogger("quakegrid.web")


class FollowedFeed(Feed):
    """Tells its readers, too, whether the service answers.

    Args:
        name: of what is followed, for the log.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self.is_connected = False

    async def follow_source(self) -> None:
        """Follow the service for ever."""
        await retries.follow(self._open, self._take, self._lose)

    def _open(self) -> AsyncIterable[Any]:
        """Open the stream."""
        raise NotImplementedError

    def _take(self, response: Any) -> None:
        """Take what came on it."""
        raise NotImplementedError

    def _lose(self, failure: grpc.RpcError | None) -> None:
        if failure is not None and self.is_connected:
            log.warning("%s_not_followed code=%s", self._name, failure.code().name)
        self._connected(is_connected=False)

    def _connected(self, *, is_connected: bool) -> None:
        if is_connected != self.is_connected:
            self.is_connected = is_connected
            self.tell("connection", json.dumps({"is_connected": is_connected}))
