"""Streams of servicers: coroutines in the dbserver's event loop, behind the interceptor."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.services.dbserver.rpc.interceptor import CallInterceptor, CallThreads
from tests.support.calls import loops


def serve(stream: Callable[[Any, Any], Any], client: Callable[[Any], None]) -> None:
    """Run a client against a server whose one method is `stream`."""

    async def run() -> None:
        with ThreadPoolExecutor(1) as threads:
            interceptor = CallInterceptor(CallThreads(threads, threads, threads, threads))
            server = grpc.aio.server(threads, interceptors=[interceptor])
            method = grpc.unary_stream_rpc_method_handler(stream)
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("x", {"S": method}),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()

            def call() -> None:
                with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                    client(channel.unary_stream("/x/S"))

            await asyncio.to_thread(call)
            await server.stop(None)

    loops.run(run())


def test_stream_learns_that_its_client_has_left() -> None:
    """A stream that waits is cancelled, so it gives up what it holds."""
    has_ended = threading.Event()

    async def stream(_request: bytes, context: Any) -> None:
        await context.write(b"first")
        try:
            await asyncio.Event().wait()
        finally:
            has_ended.set()

    def client(method: Any) -> None:
        call = method(b"")
        assert next(call) == b"first"
        call.cancel()
        assert has_ended.wait(60)

    serve(stream, client)


def test_stream_that_fails_says_why_after_what_it_sent() -> None:
    """An error of ours arrives with its code, behind the responses before it."""

    async def stream(_request: bytes, context: Any) -> None:
        for number in range(20):
            await context.write(b"%d" % number)
        raise errors.NotFoundError("there is no more")

    def client(method: Any) -> None:
        call = method(b"")
        assert [next(call) for _ in range(20)] == [b"%d" % number for number in range(20)]
        with pytest.raises(grpc.RpcError, match="there is no more") as refusal:
            next(call)
        assert refusal.value.code() is grpc.StatusCode.NOT_FOUND

    serve(stream, client)
