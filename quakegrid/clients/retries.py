"""Which calls are sent again: after transient failures, for a limited time, with the same request id.

Streams that are followed for ever are opened again after any failure.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterable, Callable
from typing import TypeVar

import grpc

from quakegrid.clients.backoff import Backoff
from quakegrid.transport import grpc_channels

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0
# Between the streams that are followed, one after the other.
FIRST_STREAM_PAUSE_S, LONGEST_STREAM_PAUSE_S = 0.1, 5.0
Response = TypeVar("Response")
# RESOURCE_EXHAUSTED is a full disk: nothing was written. gRPC means messages that are too large by it, too.
_TRANSIENT = frozenset({*grpc_channels.NO_ANSWER, grpc_channels.NOT_NOW, grpc.StatusCode.RESOURCE_EXHAUSTED})


def new_request_id() -> str:
    """An id that no other request has; ids made about the same time are stored side by side."""
    return f"{time.time_ns():016x}{os.urandom(8).hex()}"


def new_backoff() -> Backoff:
    """The pauses between tries to reach a service."""
    return Backoff(FIRST_PAUSE_S, LONGEST_PAUSE_S)


def is_transient(exc: grpc.RpcError) -> bool:
    """Whether the same call may succeed later."""
    return exc.code() in _TRANSIENT and not grpc_channels.is_too_large(exc)


class Retries:
    """Pauses between the tries of one call, growing and with jitter, until the time is up.

    Args:
        retry_s: how long the call is tried again, counted from now.
    """

    __slots__ = ("_backoff", "_end_s")

    def __init__(self, retry_s: float) -> None:
        self._end_s = time.monotonic() + retry_s
        self._backoff: Backoff | None = None  # most calls succeed at once and need none

    def may_go_on(self, exc: grpc.RpcError) -> bool:
        """Pause and say whether to try again."""
        if not is_transient(exc):
            return False
        self._backoff = self._backoff or new_backoff()
        pause_s = self._backoff.next_s()
        if time.monotonic() + pause_s > self._end_s:
            return False
        time.sleep(pause_s)
        return True


async def follow(
    open_stream: Callable[[], AsyncIterable[Response]],
    take: Callable[[Response], None],
    lose: Callable[[grpc.RpcError | None], None],
) -> None:
    """Take what comes on a stream, and open another when it ends, until cancelled.

    Args:
        open_stream: opens it.
        take: called with each response.
        lose: called at each end, with what gRPC says, None for an end in order.
    """
    pauses = Backoff(FIRST_STREAM_PAUSE_S, LONGEST_STREAM_PAUSE_S)
    while True:
        failure = None
        try:
            async for response in open_stream():
                pauses.reset()
                take(response)
        except grpc.RpcError as exc:
            failure = exc
        lose(failure)
        await asyncio.sleep(pauses.next_s())
