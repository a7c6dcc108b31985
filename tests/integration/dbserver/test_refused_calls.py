"""Refused calls leave nothing behind that only a search for garbage would find."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.services.dbserver.rpc.interceptor import CallInterceptor, CallThreads
from tests.support.calls import loops

CALL_COUNT = 50


class Held:
    """What a call holds while it is answered."""


def in_thread(_request: bytes, _context: Any) -> bytes:
    """A call in a thread."""
    held = Held()
    raise errors.NotFoundError(f"{type(held)} is not there")


async def in_loop(request: bytes, context: Any) -> bytes:
    """A call in the event loop."""
    return in_thread(request, context)


async def streaming(request: bytes, context: Any) -> None:
    """A stream of responses."""
    in_thread(request, context)


async def both_ways(_requests: Any, context: Any) -> AsyncIterator[bytes]:
    """A stream of requests and responses."""
    yield in_thread(b"", context)


HANDLERS = {
    "thread": grpc.unary_unary_rpc_method_handler(in_thread),
    "loop": grpc.unary_unary_rpc_method_handler(in_loop),
    "stream": grpc.unary_stream_rpc_method_handler(streaming),
    "both": grpc.stream_stream_rpc_method_handler(both_ways),
}


@pytest.mark.parametrize("name", HANDLERS)
def test_refused_call_leaves_no_cycle(name: str) -> None:
    """A client that is refused again and again would fill the memory with frames and requests."""

    async def refuse(channel: grpc.aio.Channel) -> None:
        # On the wire all kinds of calls are streams. One that is refused before its request has left ends
        # with an error of gRPC's own here.
        call = channel.stream_stream(f"/x/{name}")(iter([b""]))
        with pytest.raises(grpc.aio.AioRpcError, match=r"is not there|Internal error from Core"):
            async for _ in call:
                pass

    async def run() -> Counter[str]:
        with ThreadPoolExecutor(1) as threads:
            interceptor = CallInterceptor(CallThreads(threads, threads, threads, threads))
            server = grpc.aio.server(threads, interceptors=[interceptor])
            handlers = grpc.method_handlers_generic_handler("x", {name: HANDLERS[name]})
            server.add_generic_rpc_handlers((handlers,))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await refuse(channel)
                gc.collect()
                gc.disable()
                for _ in range(CALL_COUNT):
                    await refuse(channel)
                found = Counter(type(each).__name__ for each in gc.get_objects())
            await server.stop(None)
            return found

    try:
        found = loops.run(run())
    finally:
        gc.enable()

    assert found["Held"] <= 1
    assert found["RPCState"] <= 5
