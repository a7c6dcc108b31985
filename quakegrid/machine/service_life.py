"""What ends a service: a signal, or the failure of any of its parts.

A part is the gRPC port, an endless task, or a callback of the event loop. A service without one of its parts
looks alive and does half of its work, so the failure of a part ends the service with exit code 1; systemd or
`quakegrid up` starts it again. The failure of one call or one task does not count. Depends on the event loop
and gRPC's handlers, not on a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from quakegrid import errors

log = logging.getLogger("quakegrid.service")
# Errors that only a bug of ours can cause. After one of them the state of the process may be wrong.
BUGS = (errors.IllegalMoveError, AssertionError)
_IS_PART = "quakegrid_part"
_ACCEPTING = "_server_main_loop"


class Life:
    """The life of one service process.

    Args:
        on_failed: called in the event loop at each failure; must start the end of the service.
    """

    def __init__(self, on_failed: Callable[[], None]) -> None:
        self._on_failed = on_failed
        self._parts: set[asyncio.Task[None]] = set()
        self._is_ending = False
        self.has_failed = False

    @property
    def exit_code(self) -> int:
        """The exit code of the process."""
        return errors.EXIT_FAILED if self.has_failed else errors.EXIT_CLEAN

    def guard(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count exceptions in callbacks of this loop (signals, timers, readers) as failures."""
        loop.set_exception_handler(self._on_loop_error)

    def keep(self, part: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        """Run a part that must neither fail nor end before `end` is called.

        Args:
            part: the work, which does not end by itself.
            what: its name in the log.
        """
        task = asyncio.get_running_loop().create_task(part, name=what)
        self._parts.add(task)
        task.add_done_callback(self._on_part_ended)
        return task

    def fail(self, what: str, exc: BaseException | None = None) -> None:
        """End the service, since a part of it has failed; must be called in the event loop."""
        if self._is_ending:
            log.warning("part_failed_at_the_end part=%s", what, exc_info=exc)
            return
        log.error("part_failed part=%s", what, exc_info=exc)
        self.has_failed = True
        self._on_failed()

    def end(self) -> None:
        """Let parts end from now on, since the service is being stopped."""
        self._is_ending = True

    def _on_part_ended(self, task: asyncio.Task[None]) -> None:
        self._parts.discard(task)
        if not self._is_ending:
            self.fail(task.get_name(), None if task.cancelled() else task.exception())

    def _on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        # It is no failure that gRPC's reader finds its pipe empty: another thread was faster.
        is_callback = "handle" in context and not isinstance(exc, BlockingIOError)
        if _IS_PART in context or is_callback:
            self.fail(context.get(_IS_PART) or context["message"], exc)
        else:
            loop.default_exception_handler(context)


def must_not_fail(task: asyncio.Task[Any]) -> None:
    """End the service if this side task has failed: a done callback, for code that has no `Life` at hand."""
    if not task.cancelled() and (exc := task.exception()):
        _tell_loop(task.get_name(), exc)


def _tell_loop(what: str, exc: BaseException) -> None:
    context = {"message": f"{what} failed", "exception": exc, _IS_PART: what}
    asyncio.get_running_loop().call_exception_handler(context)


class BugWatch(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Ends the service when a handler of a call shows a bug of ours; gRPC would only answer UNKNOWN.

    Covers handlers that run in the event loop, where `Life.guard` hears of the bug.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Pass a call on to its handler, and watch it."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        watched: dict[str, Any] = {}
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, kind)
            if inspect.iscoroutinefunction(behaviour):
                watched[kind] = _watched_call(behaviour, handler_call_details.method)
            elif inspect.isasyncgenfunction(behaviour):
                watched[kind] = _watched_stream(behaviour, handler_call_details.method)
        return handler._replace(**watched)


def _watched_call(behaviour: Callable[..., Awaitable[Any]], method: str) -> Callable[..., Awaitable[Any]]:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await behaviour(request, context)
        except BUGS as exc:
            _tell_loop(method, exc)
            raise

    return call


def _watched_stream(
    behaviour: Callable[..., AsyncGenerator[Any, None]], method: str
) -> Callable[..., AsyncGenerator[Any, None]]:
    async def stream(request: Any, context: Any) -> AsyncGenerator[Any, None]:
        try:
            async with contextlib.aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield response
        except BUGS as exc:
            _tell_loop(method, exc)
            raise

    return stream


class Port:
    """A gRPC port that is opened again when a request has closed it.

    gRPC's loop that accepts calls ends at a request whose path is not UTF-8: the port is closed then, and
    calls that run are cancelled, as if the service had been started again.

    Args:
        make: makes a server that is bound to the port and not started; called in the event loop.
    """

    def __init__(self, make: Callable[[], grpc.aio.Server]) -> None:
        self._make = make
        self._server = make()
        self._accepting: asyncio.Future[Any] | None = None
        self._is_stopped = False
        # Opening it again and stopping it take several steps each.
        self._changing = asyncio.Lock()

    async def start(self) -> None:
        """Begin to serve."""
        others = asyncio.all_tasks()
        await self._server.start()
        # gRPC's task that accepts calls. `wait_for_termination` tells of its end only when the last stream
        # has ended, which may be never.
        started = asyncio.all_tasks() - others
        self._accepting = next((task for task in started if _name(task).endswith(_ACCEPTING)), None)

    async def stay_open(self) -> None:
        """Wait until the port is stopped; for `keep`. Raises the error that closed the port for good."""
        while True:
            try:
                await self._wait_until_closed()
            except UnicodeDecodeError as exc:
                async with self._changing:
                    if self._is_stopped:
                        return
                    log.warning("port_reopened reason=%s", exc)
                    await self._server.stop(0)
                    self._server = self._make()
                    await self.start()
            else:
                return

    async def stop(self, timeout_s: float) -> None:
        """Refuse new calls, and end running calls after the grace."""
        self._is_stopped = True
        async with self._changing:
            await self._server.stop(timeout_s)

    async def _wait_until_closed(self) -> None:
        """Wait until no call is accepted any more; raises why if nobody has stopped the port."""
        # Never cancelled, since that would also cancel the task that `stop` waits for.
        terminated = asyncio.ensure_future(self._server.wait_for_termination())
        terminated.add_done_callback(_look_at)
        ends = {terminated, *([self._accepting] if self._accepting else [])}
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in done:
            await end
        await terminated  # it ends when the calls have ended that `stop` lets go on


class Health:
    """Tells callers of a port whether the service and its parts are available, by gRPC's health protocol.

    Args:
        services: full names of the gRPC services of the port.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._names = ("", *services)
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]

    def add_to(self, server: grpc.aio.Server) -> None:
        """Let a server answer."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def tell(self, *, is_serving: bool) -> None:
        """Answer this from now on, and tell the callers that watch."""
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self._servicer.set(name, status.SERVING if is_serving else status.NOT_SERVING)


def _look_at(ended: asyncio.Future[Any]) -> None:
    """Read an exception, so that asyncio does not log it as never retrieved."""
    if not ended.cancelled():
        ended.exception()


def _name(task: asyncio.Task[Any]) -> str:
    return getattr(task.get_coro(), "__qualname__", "")


def tell_doubts(warnings: Iterable[str]) -> None:
    """Log the warnings about the settings of this service."""
    for warning in warnings:
        log.warning("settings_doubtful reason=%s", warning)
