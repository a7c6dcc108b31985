"""Streams driven by who waits, and those of gRPC's public client: one suite over both."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from quakegrid.clients.dbserver import private_grpc_streams
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.private_grpc_streams import (
    BrokenStreamError,
    MessageStream,
    OwnThreadStream,
    ThreadedStream,
)
from tests.integration.dbserver.test_dbserver_call_streams import SLOW_QUERY
from tests.support.processes import Service

METHOD = "/test.Echo/Echo"
Open = Callable[[grpc.Channel, str], MessageStream]


class EchoServer:
    """Sends messages back; ends a stream in order at `end`, refuses at `refuse`, is silent at `wait`."""

    def __init__(self) -> None:
        self.port: Future[int] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(self._echo)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("test.Echo", {"Echo": handler})]
        )
        self.port.set_result(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await self._stop.wait()
        await server.stop(None)

    async def _echo(self, _requests: Any, context: Any) -> None:
        while (message := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            match message:
                case b"end":
                    return
                case b"refuse":
                    await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today")
                case b"wait":
                    continue
            await context.write(message)

    def stop(self) -> None:
        """End it and its streams."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()


@pytest.fixture
def server() -> Iterator[EchoServer]:
    """A server of its own."""
    echo = EchoServer()
    yield echo
    echo.stop()


@pytest.fixture
def channel(server: EchoServer) -> Iterator[grpc.Channel]:
    """A connection to it."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port.result(30)}") as channel:
        yield channel


@pytest.fixture(params=[OwnThreadStream, ThreadedStream])
def open_stream(request: pytest.FixtureRequest) -> Open:
    """Each way to open a stream."""
    opener: Open = request.param
    return opener


def test_messages_come_back(channel: grpc.Channel, open_stream: Open) -> None:
    """Each one is answered, also the empty and the large one, whichever thread asks."""
    stream = open_stream(channel, METHOD)

    for message in [b"one", b"", b"x" * 3_000_000, *(b"%d" % number for number in range(500))]:
        assert stream.exchange(message) == message
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(stream.exchange, b"elsewhere").result(30) == b"elsewhere"
    stream.cancel()


@pytest.mark.parametrize(
    ("message", "code", "details"),
    [
        (b"end", grpc.StatusCode.UNAVAILABLE, "the stream has ended"),
        (b"refuse", grpc.StatusCode.FAILED_PRECONDITION, "not today"),
    ],
)
def test_end_is_told_to_who_asks(
    channel: grpc.Channel, open_stream: Open, message: bytes, code: grpc.StatusCode, details: str
) -> None:
    """As often as it asks, with the server's words."""
    stream = open_stream(channel, METHOD)
    assert stream.exchange(b"before") == b"before"

    for question in (message, b"too late"):
        with pytest.raises(BrokenStreamError, match=details) as broken:
            stream.exchange(question)
        assert broken.value.code() is code


def test_who_waits_hears_of_a_cancel(channel: grpc.Channel, open_stream: Open) -> None:
    """Who waits for an answer is let go by `cancel` of another thread."""
    stream = open_stream(channel, METHOD)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(stream.exchange, b"wait")
        stream.cancel()

        with pytest.raises(BrokenStreamError) as broken:
            waiting.result(30)
    assert broken.value.code() is grpc.StatusCode.UNAVAILABLE


def test_server_that_goes_is_unavailable(
    server: EchoServer, channel: grpc.Channel, open_stream: Open
) -> None:
    """The stream breaks, and one to nobody breaks, too."""
    stream = open_stream(channel, METHOD)
    assert stream.exchange(b"here") == b"here"

    server.stop()

    for broken_stream in (stream, open_stream(channel, METHOD)):
        with pytest.raises(BrokenStreamError) as broken:
            broken_stream.exchange(b"gone")
        assert broken.value.code() is grpc.StatusCode.UNAVAILABLE


def test_closed_channel_opens_nothing(server: EchoServer) -> None:
    """It is an error at once."""
    channel = grpc.insecure_channel(f"127.0.0.1:{server.port.result(30)}")
    channel.close()

    with pytest.raises(BrokenStreamError, match="closed channel"):
        private_grpc_streams.open_stream(channel, METHOD)


def test_installed_grpc_has_the_inner_classes(channel: grpc.Channel) -> None:
    """Otherwise the slower way is taken, which is no error for users, but one for us."""
    stream = private_grpc_streams.open_stream(channel, METHOD)

    assert isinstance(stream, OwnThreadStream)
    stream.cancel()


def test_foreign_grpc_gets_the_public_client(channel: grpc.Channel) -> None:
    """A channel that has only what is documented is used as its documentation says."""
    documented: Any = SimpleNamespace(stream_stream=channel.stream_stream)

    stream = private_grpc_streams.open_stream(documented, METHOD)

    assert isinstance(stream, ThreadedStream)
    assert stream.exchange(b"hello") == b"hello"
    stream.cancel()


def test_interrupted_call_leaves_the_client_usable(dbserver_process: Service) -> None:
    """A signal's handler that raises ends its call; the next one works, and does not get its answer."""

    class HandlerError(Exception):
        pass

    def raise_error(_number: int, _frame: object) -> None:
        raise HandlerError

    old = signal.signal(signal.SIGALRM, raise_error)
    try:
        with DbClient(dbserver_process.settings) as client:
            assert dbserver_process.process is not None
            assert client.call("getpid") == dbserver_process.process.pid
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(HandlerError):
                client.call(SLOW_QUERY)

            assert client.call("getpid") == dbserver_process.process.pid
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
