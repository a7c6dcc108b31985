"""Streams that are opened again and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from quakegrid.clients import retries
from quakegrid.clients.dbserver.private_grpc_streams import BrokenStreamError

GONE = BrokenStreamError(grpc.StatusCode.UNAVAILABLE, "gone")


def test_stream_is_opened_again_after_each_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """With pauses that grow while nothing comes, whether it failed or ended in order."""
    streams: list[list[object]] = [[1, 2, GONE], [GONE], [], [3]]
    taken, lost, pauses, closed = [], [], [], []

    async def open_stream() -> AsyncIterator[object]:
        left = streams.pop(0)
        try:
            for each in left:
                if isinstance(each, Exception):
                    raise each
                yield each
        finally:
            closed.append(len(left))

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if not streams:
            raise asyncio.CancelledError

    monkeypatch.setattr(retries.asyncio, "sleep", sleep)
    monkeypatch.setattr("random.random", lambda: 0.5)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(retries.follow(open_stream, taken.append, lost.append))

    assert taken == [1, 2, 3]
    assert lost == [GONE, GONE, None, None]
    assert closed == [3, 1, 0, 1]
    assert pauses == [0.1, 0.2, 0.4, 0.1]


def test_stream_that_is_followed_is_closed_when_nobody_listens_any_more() -> None:
    """It has a connection of its own."""
    closed = []

    async def open_stream() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def run() -> list[bool]:
        taken = asyncio.get_running_loop().create_future()
        following = asyncio.ensure_future(
            retries.follow(open_stream, taken.set_result, lambda _failure: None)
        )
        await taken
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        return list(closed)  # the end of the loop would close it anyway

    assert asyncio.run(run()) == [True]
