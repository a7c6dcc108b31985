"""A stream that ends leaves its last read to gRPC, which gives the memory of a request back only then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, cast

import grpc
import pytest

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.api.v1 import logs_pb2
from quakegrid.services.dbserver.logs.tails import LogTails
from quakegrid.services.dbserver.rpc.call_streams import CallStreams
from quakegrid.services.dbserver.rpc.logs import LogsServicer
from quakegrid.services.dbserver.store.database import Readers
from quakegrid.services.dbserver.store.idempotence import Requests
from quakegrid.transport import callers
from quakegrid.transport.request_reads import RequestReads

REFUSED = logs_pb2.AppendLogRequest(lines=[logs_pb2.LogLine(log_time={"nanos": -1})])


class Reads:
    """What gRPC offers: each read waits for the next request."""

    def __init__(self, *requests: object) -> None:
        self._requests = list(requests)
        self.last: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def read(self) -> Any:
        """The next request; the last read waits until the test ends it."""
        return self._requests.pop(0) if self._requests else await self.last

    async def iterate(self) -> AsyncGenerator[Any, None]:
        """The same as an iterator."""
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request


async def finish(reads: Reads) -> bool:
    """Let gRPC end the last read; true if it was left to gRPC, and nothing waits any more."""
    was_left = not reads.last.cancelled()
    if was_left:
        reads.last.set_result(grpc.aio.EOF)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    return was_left


def test_read_is_not_cancelled_by_the_end() -> None:
    """A request that comes too late is read and dropped."""

    async def run() -> list[object]:
        reads, taken = Reads("first"), []
        requests: RequestReads[object] = RequestReads(reads.read)

        async def take() -> None:
            while (request := await requests.next()) is not grpc.aio.EOF:
                taken.append(request)

        task = requests.start(take())
        await asyncio.sleep(0)
        requests.end()
        await asyncio.sleep(0)
        assert not task.done()
        reads.last.set_result("late")
        await task
        return taken

    assert asyncio.run(run()) == ["first"]


def test_task_that_does_not_read_ends_at_once() -> None:
    """It may wait for a place that nobody will give it."""

    async def run() -> bool:
        reads = Reads("first")
        requests: RequestReads[object] = RequestReads(reads.read)

        async def take() -> None:
            await requests.next()
            await asyncio.Event().wait()

        task = requests.start(take())
        await asyncio.sleep(0)
        requests.end()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(run())


def test_refused_batch_of_lines_leaves_the_next_read_to_grpc() -> None:
    """Each refused stream would lose the batch that its client had sent behind the refused one."""

    async def run() -> bool:
        reads = Reads(REFUSED)
        callers.enter(principals.SERVICE)
        servicer = LogsServicer(cast("Readers", None), cast("Requests", None), cast("LogTails", None))
        answers = servicer.AppendLog(reads.iterate(), cast("grpc.ServicerContext", None))
        with pytest.raises(errors.UsageError):
            await anext(answers)
        await asyncio.sleep(0)
        return await finish(reads)

    assert asyncio.run(run())


def test_stream_of_calls_that_is_left_leaves_its_read_to_grpc() -> None:
    """A driver that leaves may have sent a call."""

    async def run() -> bool:
        reads = Reads()
        streams = CallStreams(lambda *_: b"")
        stream = asyncio.create_task(streams.serve(reads))
        while not streams._idle:  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0)
        stream.cancel()
        await asyncio.wait([stream])
        await asyncio.sleep(0)
        return await finish(reads)

    assert asyncio.run(run())
