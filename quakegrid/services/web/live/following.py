"""Follows a stream of a service for ever, also after the service was started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from typing import TypeVar

import grpc

from quakegrid.clients.backoff import Backoff

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
