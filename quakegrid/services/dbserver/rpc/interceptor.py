"""How gRPC's calls reach the servicers: in threads or as coroutines, with every error answered.

A method that is a coroutine runs in the event loop. Any other method runs in a thread.

gRPC keeps the error of an aborted call in the state of the call, and the traceback of that error keeps the
frames that it went through. If such a frame had the call's context, or our error were the cause of gRPC's,
the references would form a cycle, and all objects of the call would stay until the next garbage collection.
So calls are aborted outside of `except`, in a frame that holds nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc

from quakegrid.services.dbserver.rpc import status_codes
from quakegrid.services.dbserver.store.read_limits import LargeResults, Place

T = TypeVar("T")
# How the names of methods begin that only read.
_READING = ("Find", "Get", "List")


@dataclass(frozen=True, slots=True)
class CallThreads:
    """The threads for methods of servicers that are not coroutines.

    Each kind has threads of its own, so that no call waits for a thread that waits for something else.

    Args:
        calls: for calls that write, and wait for the writer.
        reads: for reads of some milliseconds, which never wait for the writer.
        slow_calls: for calls that may take minutes: SQL of others, checks and copies.
        deletions: for deletions of jobs, which wait until all rows are gone.
        large_results: places for what is too large for many at once.
    """

    calls: Executor
    reads: Executor
    slow_calls: Executor
    deletions: Executor
    large_results: LargeResults = field(default_factory=LargeResults)

    def of_calls(self, method: str) -> Executor:
        """Where a method's calls run, by its full name, such as "/quakegrid.api.v1.Jobs/GetJob"."""
        service, _, name = method.rpartition("/")
        if service.endswith(".Database"):
            return self.slow_calls
        if name == "DeleteJob":
            return self.deletions
        return self.reads if name.startswith(_READING) else self.calls


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Runs the methods of servicers, and answers each error with its status code and one line of text."""

    def __init__(self, threads: CallThreads) -> None:
        self._threads = threads
        self._handlers: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler that gRPC found for a call, once for each method."""
        method = str(handler_call_details.method)
        wrapped = self._handlers.get(method)
        if wrapped is None:
            wrapped = _wrap(method, await continuation(handler_call_details), self._threads)
            if wrapped is not None:  # a cache of methods that do not exist could grow without end
                self._handlers[method] = wrapped
        return wrapped


def _wrap(method: str, handler: Any, threads: CallThreads) -> Any:
    """Wrap the handler of a method so that it answers errors. A stream is always a coroutine."""
    if handler is None:
        return None
    codec = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary and inspect.iscoroutinefunction(handler.unary_unary):
        codec["response_serializer"] = _serialize_once(handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(_aio_call(handler.unary_unary), **codec)
    if handler.unary_unary:
        answer = _unary(handler.unary_unary, threads.of_calls(method), threads.large_results)
        codec["response_serializer"] = _serialize_once(handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(answer, **codec)
    if handler.unary_stream and inspect.iscoroutinefunction(handler.unary_stream):
        codec["response_serializer"] = _serialize_once(handler.response_serializer)
        return grpc.unary_stream_rpc_method_handler(_aio_call(handler.unary_stream), **codec)
    if handler.stream_stream and inspect.iscoroutinefunction(handler.stream_stream):
        codec["response_serializer"] = _serialize_once(handler.response_serializer)
        return grpc.stream_stream_rpc_method_handler(_aio_call(handler.stream_stream), **codec)
    if handler.stream_stream and inspect.isasyncgenfunction(handler.stream_stream):
        return grpc.stream_stream_rpc_method_handler(_aio_stream(handler.stream_stream), **codec)
    return handler


def _serialize_once(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Send bytes as they are, since a message for many clients is serialized once by its servicer."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)


class UnaryCall:
    """The context of a call that a servicer answers in a thread.

    Attributes:
        place: what a large response needs, given back when it is sent.
    """

    def __init__(self, place: Place | None = None) -> None:
        self.place = place
        self._has_ended = threading.Event()

    def is_active(self) -> bool:
        """Whether somebody still waits for the response."""
        return not self._has_ended.is_set()

    def end(self) -> None:
        """Note that the client has left or got its response."""
        self._has_ended.set()


def _unary(
    behaviour: Callable[[Any, Any], Any], threads: Executor, large_results: LargeResults
) -> Callable[[Any, Any], Awaitable[Any]]:
    """Run a method in a thread.

    A call that still waits for a thread is dropped when its client leaves. A call that runs can ask
    `is_active`.
    """

    def respond(request: Any, call: UnaryCall) -> bytes:
        response = behaviour(request, call)
        status_codes.check_size(response.ByteSize())
        message: bytes = response.SerializeToString()  # here and not in the event loop
        return message

    async def answer(request: Any, context: Any) -> Any:
        place = large_results.place()
        call = UnaryCall(place)
        try:
            run = contextvars.copy_context().run  # the thread can ask who calls
            loop = asyncio.get_running_loop()
            message = await loop.run_in_executor(threads, run, respond, request, call)
        except BaseException:
            place.give_back()
            raise
        finally:
            call.end()
        place.give_back_after(context)
        return message

    return _aio_call(answer)


def _aio_call(behaviour: Callable[[Any, Any], Awaitable[T]]) -> Callable[[Any, Any], Awaitable[T | None]]:
    async def answer(request: Any, context: Any) -> T | None:
        try:
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as exc:  # noqa: BLE001  the loop's edge
            refusal = status_codes.refusal(exc)
        aborting = context.abort(*refusal)
        del request, context
        await aborting
        return None

    return answer


def _aio_stream(
    behaviour: Callable[[Any, Any], AsyncIterator[T]],
) -> Callable[[Any, Any], AsyncIterator[T]]:
    async def answer(request: Any, context: Any) -> AsyncIterator[T]:
        try:
            async for response in behaviour(request, context):
                yield response
        except Exception as exc:  # noqa: BLE001  the loop's edge
            refusal = status_codes.refusal(exc)
        else:
            return
        aborting = context.abort(*refusal)
        del request, context
        await aborting

    return answer
