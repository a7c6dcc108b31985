"""Ends answers that go on when the broker stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def until(source: AsyncIterator[T], stopping: asyncio.Event) -> AsyncIterator[T]:
    """What a source gives, until the broker stops."""
    stopped = asyncio.ensure_future(stopping.wait())
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(source))
            await asyncio.wait([coming, stopped], return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return
            try:
                found = coming.result()
            except StopAsyncIteration:
                return
            yield found
    finally:
        stopped.cancel()
        if coming is not None and not coming.done():
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await coming
