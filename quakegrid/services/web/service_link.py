"""A connection of the web service to another service, over gRPC in its event loop.

A channel lives less than a certificate, so it is opened anew each day, and when the authkey changes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from quakegrid.access.proofs import Keyring
from quakegrid.transport import grpc_channels

Response = TypeVar("Response")
# People and QGIS wait at most 10 s for most routes.
CALL_TIMEOUT_S = 9.0
CHANNEL_AGE_S = 24 * 3600.0
# Calls that run on an old channel may take so long to end.
OLD_CHANNEL_GRACE_S = 120.0


class ServiceLink:
    """A connection to one service, opened anew each day and when the authkey changes.

    Args:
        service: its name, for messages.
        address: its `host:port`.
        proof: the cluster's secret.
    """

    def __init__(self, service: str, address: str, proof: Keyring) -> None:
        self.service, self.address, self._proof = service, address, proof
        self._opened_s, self._keys = time.monotonic(), proof.keys
        self._channel = grpc_channels.open_aio_channel(address, proof)
        self._closing: set[asyncio.Task[None]] = set()

    def open(self) -> grpc.aio.Channel:
        """The channel for the next call."""
        is_old = time.monotonic() - self._opened_s > CHANNEL_AGE_S
        if is_old or self._proof.keys is not self._keys:
            task = asyncio.get_running_loop().create_task(self._channel.close(OLD_CHANNEL_GRACE_S))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._opened_s, self._keys = time.monotonic(), self._proof.keys
            self._channel = grpc_channels.open_aio_channel(self.address, self._proof)
        return self._channel

    async def close(self) -> None:
        """End calls and connections."""
        for task in list(self._closing):
            task.cancel()
        await self._channel.close(None)

    async def call(
        self, method: Callable[..., Awaitable[Response]], request: Any, timeout_s: float = CALL_TIMEOUT_S
    ) -> Response:
        """Call a method of a stub.

        Raises:
            QuakeGridError: as of `quakegrid.clients.connection.Connection`.
        """
        try:
            return await method(request, timeout=timeout_s)
        except grpc.RpcError as exc:
            raise grpc_channels.translate(exc, self.service, self.address) from exc
