"""Reads the requests of an asyncio stream of gRPC, in a task that may have to end at any time.

gRPC frees the memory of a request only if the read that waits for it is not cancelled. A request that arrives
for a cancelled read is never freed (grpc/grpc issue 43360). So this module never cancels a read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import grpc

T = TypeVar("T")


class RequestReads(Generic[T]):
    """The requests of one stream, for one task.

    Args:
        read: waits for the next request, or for `grpc.aio.EOF`; such as `context.read`.
    """

    def __init__(self, read: Callable[[], Awaitable[T]]) -> None:
        self._read = read
        self._task: asyncio.Task[None] | None = None
        self._is_over = False
        self.is_reading = False

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the task that calls `next` until there are no more requests."""
        self._task = asyncio.create_task(work)
        return self._task

    async def next(self) -> T | Any:
        """The next request; `grpc.aio.EOF` if there are no more, or the task is to end."""
        if self._is_over:
            return grpc.aio.EOF  # type: ignore[attr-defined]
        self.is_reading = True
        try:
            request = await self._read()
        finally:
            self.is_reading = False
        return grpc.aio.EOF if self._is_over else request

    def end(self) -> None:
        """End the task: now, or when its read ends, which is at the latest when the stream is closed."""
        self._is_over = True
        if self._task is None:
            return
        if self.is_reading:
            self._task.add_done_callback(_forget_error)
        else:
            self._task.cancel()


def _forget_error(task: asyncio.Task[None]) -> None:
    """Keep asyncio from logging the error of a read whose stream is over."""
    if not task.cancelled():
        task.exception()
