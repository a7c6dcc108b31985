"""Streams of servicers that run in threads, behind the dbserver's event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from quakegrid import errors
from services.dbserver.rpc.faults import StatusCodes, Threads


def serve(stream: Callable[[Any, Any], Iterator[bytes]], client: Callable[[Any], None]) -> None:
    """Run a client against a server whose one method is `stream`."""

    async def run() -> None:
        with ThreadPoolExecutor(2) as threads:
            server = grpc.aio.server(
                ThreadPoolExecutor(1), interceptors=[StatusCodes(Threads(threads, threads, (), threads))]
            )
            method = grpc.unary_stream_rpc_method_handler(stream)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x", {"S": method}),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()

            def call() -> None:
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    client(channel.unary_stream("/x/S"))

            await asyncio.to_thread(call)
            await server.stop(None)

    asyncio.run(run())


def test_stream_learns_that_its_client_has_left() -> None:
    """A thread that waits is woken by its callback, and sees that it is no longer wanted."""
    woken = threading.Event()
    seen: list[bool] = []

    def stream(_request: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(woken.set)
        yield b"first"
        seen.extend((woken.wait(60), context.is_active()))

    def client(method: Any) -> None:
        call = method(b"")
        assert next(call) == b"first"
        call.cancel()
        assert woken.wait(60)

    serve(stream, client)

    assert seen == [True, False]


def test_stream_that_fails_says_why_after_what_it_sent() -> None:
    """An error of ours arrives with its code, behind the responses before it."""

    def stream(_request: bytes, _context: Any) -> Iterator[bytes]:
        yield from (b"%d" % number for number in range(20))
        raise errors.NotFoundError("there is no more")

    def client(method: Any) -> None:
        call = method(b"")
        assert [next(call) for _ in range(20)] == [b"%d" % number for number in range(20)]
        with pytest.raises(grpc.RpcError, match="there is no more") as refusal:
            next(call)
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND

    serve(stream, client)
