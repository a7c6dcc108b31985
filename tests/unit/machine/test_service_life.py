"""Which failures end a service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.machine import service_life

BUG = errors.IllegalMoveError("two workers on one core")


class Watched:
    """A life in an event loop, and how often it told of a failure."""

    def __init__(self) -> None:
        self.failure_count = 0
        self.life = service_life.Life(self._on_failed)

    def _on_failed(self) -> None:
        self.failure_count += 1

    def run(self, act: Callable[[service_life.Life], Any]) -> None:
        """Call `act` in a loop that the life guards, and let what it started go on for some turns."""

        async def go() -> None:
            self.life.guard(asyncio.get_running_loop())
            act(self.life)
            for _ in range(10):
                await asyncio.sleep(0)

        asyncio.run(go())


async def end_at_once() -> None:
    """A part that ends."""


async def fail_at_once() -> None:
    """A part that fails."""
    raise OSError("no more descriptors")


def raise_bug() -> None:
    """A callback with a bug."""
    raise BUG


def raise_blocking() -> None:
    """What gRPC's reader does when another thread was faster."""
    raise BlockingIOError


def start_side_task(_life: service_life.Life) -> None:
    """Start a task that code without a `Life` looks after."""
    task = asyncio.get_running_loop().create_task(fail_at_once(), name="side")
    task.add_done_callback(service_life.must_not_fail)


@pytest.mark.parametrize(
    "act",
    [
        lambda life: life.keep(end_at_once(), "part"),
        lambda life: life.keep(fail_at_once(), "part"),
        lambda _: asyncio.get_running_loop().call_soon(raise_bug),
        start_side_task,
    ],
    ids=["part ends", "part fails", "callback raises", "side task fails"],
)
def test_failure_of_a_part_ends_the_service(act: Callable[[service_life.Life], Any]) -> None:
    """Whatever part it is, the process would be half alive without it."""
    watched = Watched()

    watched.run(act)

    assert watched.failure_count == 1
    assert watched.life.exit_code == 1


def test_failure_is_logged_with_its_part(caplog: pytest.LogCaptureFixture) -> None:
    """People read which part it was and why."""
    watched = Watched()

    watched.run(start_side_task)

    assert "part_failed part=side" in caplog.text
    assert "no more descriptors" in caplog.text


def test_end_of_a_part_while_stopping_is_in_order() -> None:
    """A stop ends the parts one after another."""
    watched = Watched()

    def stop(life: service_life.Life) -> None:
        life.keep(end_at_once(), "port")
        life.end()

    watched.run(stop)

    assert (watched.failure_count, watched.life.exit_code) == (0, 0)


@pytest.mark.parametrize("callback", [raise_blocking], ids=["gRPC's empty pipe"])
def test_harmless_callback_is_only_logged(
    callback: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Only a failure counts."""
    watched = Watched()

    with caplog.at_level(logging.ERROR, "asyncio"):
        watched.run(lambda _: asyncio.get_running_loop().call_soon(callback))

    assert watched.failure_count == 0
    assert "BlockingIOError" in caplog.text


async def call_with_bug(_request: object, _context: object) -> bytes:
    """A handler with a bug."""
    raise BUG


async def stream_with_bug(_request: object, _context: object) -> AsyncGenerator[bytes, None]:
    """A handler that answers once, then shows its bug."""
    yield b"first"
    raise BUG


async def call_with_bad_input(_request: object, _context: object) -> bytes:
    """A handler that does not like what it got."""
    raise ValueError("what is that?")


class Details(grpc.HandlerCallDetails):
    """Of a call."""

    method = "/quakegrid.api.v1.Fleet/GetStatus"
    invocation_metadata = ()


async def answer(handler: grpc.RpcMethodHandler[Any, Any]) -> None:  # type: ignore[type-arg, unused-ignore]
    """Let the interceptor wrap a handler, and call it as gRPC does."""

    async def continuation(_details: grpc.HandlerCallDetails) -> Any:
        return handler

    found = await service_life.BugWatch().intercept_service(continuation, Details())
    if found.unary_unary:
        await found.unary_unary(b"", None)
    else:
        async for _response in found.unary_stream(b"", None):
            pass


@pytest.mark.parametrize(
    ("handler", "failure_count"),
    [
        (grpc.unary_unary_rpc_method_handler(call_with_bug), 1),
        (grpc.unary_stream_rpc_method_handler(stream_with_bug), 1),
        (grpc.unary_unary_rpc_method_handler(call_with_bad_input), 0),
    ],
    ids=["call", "stream", "bad input"],
)
def test_bug_in_a_handler_ends_the_service(
    handler: grpc.RpcMethodHandler[Any, Any],  # type: ignore[type-arg, unused-ignore]
    failure_count: int,
) -> None:
    """An illegal move is ours; what a peer's input leads to is not."""
    watched = Watched()

    def act(_life: service_life.Life) -> None:
        task = asyncio.get_running_loop().create_task(answer(handler))
        task.add_done_callback(lambda ended: ended.exception())

    watched.run(act)

    assert watched.failure_count == failure_count


def test_method_that_nobody_serves_stays_unknown() -> None:
    """There is no handler to watch."""

    async def continuation(_details: grpc.HandlerCallDetails) -> Any:
        return None

    found = asyncio.run(service_life.BugWatch().intercept_service(continuation, Details()))

    assert found is None


class FakeServer:
    """A gRPC server whose accept loop has ended, as far as a port needs it."""

    def __init__(self, end: Exception | None) -> None:
        self._end = end

    async def start(self) -> None:
        """Nothing listens."""

    async def stop(self, _grace_s: float) -> None:
        """Nothing runs."""

    async def wait_for_termination(self) -> None:
        """It has ended already."""
        if self._end:
            raise self._end


BAD_PATH = UnicodeDecodeError("utf-8", b"/\xff", 1, 2, "invalid start byte")


@pytest.mark.parametrize(
    "ends",
    [
        [BAD_PATH, BAD_PATH, OSError("no more descriptors")],
        [BAD_PATH, errors.QuakeGridError("the port is in use")],
        [OSError("no more descriptors")],
    ],
    ids=["fails later", "taken meanwhile", "fails"],
)
def test_port_that_cannot_be_kept_open_ends_the_service(ends: list[Exception]) -> None:
    """Only a bad path is survived."""
    watched = Watched()
    left = iter(ends)

    def make() -> Any:
        end = next(left)
        if isinstance(end, errors.QuakeGridError):
            raise end
        return FakeServer(end)

    watched.run(lambda life: life.keep(service_life.Port(make).stay_open(), "port"))

    assert watched.failure_count == 1
    assert next(left, None) is None
