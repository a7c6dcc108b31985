"""SQLite's failures turned into our errors, and our errors into gRPC status codes.

Every message names the file and what to do; the server goes on after all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc

from quakegrid import errors
from quakegrid.transport import error_details, grpc_channels

# Of one stream that a thread makes, on their way to the client.
STREAM_RESPONSES = 4
# Leaves room for what is sent with it.
LARGEST_RESPONSE_BYTES = grpc_channels.MAX_MESSAGE_BYTES - (64 << 10)
# Characters; headers of gRPC may have 8 KiB, where a letter of ASCII takes up to three bytes, others twelve.
LONGEST_ASCII_REASON = 2000
LONGEST_REASON = 600
_END = object()
logger = logging.getLogger("dbserver")
T = TypeVar("T")


class DiskFullError(errors.QuakeGridError):
    """The database file cannot grow."""

    reason = "DISK_FULL"


class DiskFaultError(errors.QuakeGridError):
    """The disk of the database file does not read or write."""

    reason = "DISK_FAULT"


class DatabaseBusyError(errors.QuakeGridError):
    """Another process holds the database's write lock."""

    reason = "DATABASE_BUSY"


class DatabaseDamagedError(errors.QuakeGridError):
    """The database file is not one, or is damaged."""

    reason = "DATABASE_DAMAGED"


class ForbiddenSqlError(errors.QuakeGridError):
    """SQL that would write, on a connection that only reads."""

    reason = "FORBIDDEN_SQL"


class TooManyFollowersError(errors.QuakeGridError):
    """All places for followers of logs or jobs are taken."""

    reason = "TOO_MANY_FOLLOWERS"


class ResultTooLargeError(errors.QuakeGridError):
    """A response is larger than a message may be."""

    reason = "RESULT_TOO_LARGE"


# The first class that matches counts; anything else of ours is UNKNOWN, which keeps its words.
_CODES: tuple[tuple[type[errors.QuakeGridError], grpc.StatusCode], ...] = (
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.UsageError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.StateError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.PeerUnreachableError, grpc.StatusCode.UNAVAILABLE),
    (ForbiddenSqlError, grpc.StatusCode.PERMISSION_DENIED),
    # Clients try again after this one, and after UNAVAILABLE; the others would fail again.
    (DiskFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DiskFaultError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (TooManyFollowersError, grpc.StatusCode.FAILED_PRECONDITION),
    (ResultTooLargeError, grpc.StatusCode.OUT_OF_RANGE),
    (DatabaseBusyError, grpc_channels.NOT_NOW),
    (DatabaseDamagedError, grpc.StatusCode.DATA_LOSS),
)


def from_sqlite(exc: sqlite3.Error, path: Path) -> errors.QuakeGridError:
    """The error of ours for one of SQLite's on the database file `path`."""
    primary = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if str(exc) == "not authorized":  # SQLite's parser reports some of them as plain errors
        primary = sqlite3.SQLITE_AUTH
    match primary:
        case sqlite3.SQLITE_FULL:
            text = f"cannot write to {path}: {exc}; free space on its disk (or raise the quota) and try again"
            return DiskFullError(text)
        case sqlite3.SQLITE_IOERR | sqlite3.SQLITE_NOMEM | sqlite3.SQLITE_INTERRUPT:
            return _machine_error(exc, primary, path)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return errors.StateError(
                f"cannot write to {path}: {exc}; make the file and its directory writable for this user"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseBusyError(
                f"another process holds {path}: {exc}; only the dbserver may have it open"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return damaged(path, str(exc))
        case sqlite3.SQLITE_AUTH:
            return ForbiddenSqlError(
                "SQL from outside may only read: give one SELECT, or a PRAGMA that informs"
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return errors.StateError(f"{path.name} refuses the change: {exc}")
        case _:
            return errors.UsageError(f"{path.name} refuses the SQL or its arguments: {exc}")


def _machine_error(exc: sqlite3.Error, primary: int, path: Path) -> errors.QuakeGridError:
    """The error for what is neither the fault of the file nor of the SQL."""
    if primary == sqlite3.SQLITE_NOMEM:
        return errors.QuakeGridError(f"the dbserver has no memory for the request ({exc}); ask for less")
    if primary == sqlite3.SQLITE_INTERRUPT:
        return errors.PeerUnreachableError("the query was interrupted")
    name = getattr(exc, "sqlite_errorname", "SQLITE_IOERR")
    return DiskFaultError(
        f"cannot {'read' if 'READ' in name else 'write to'} {path}: {exc} ({name}); look for errors of the "
        "disk (`dmesg`), and free space on it if it is full or over its quota"
    )


def damaged(path: Path, reason: str) -> DatabaseDamagedError:
    """The error for a damaged file, with the remedy."""
    return DatabaseDamagedError(
        f"{path} is damaged or no SQLite database: {' '.join(reason.split())}; restore a "
        "copy that `quakegrid db backup` made (`quakegrid db restore COPY`), or save what can be read with "
        f"`sqlite3 {path} .recover | sqlite3 NEWFILE`"
    )


def check_size(size_bytes: int) -> None:
    """Refuse a response that gRPC would not send, in words and with a code of its own.

    Raises:
        ResultTooLargeError: it is larger than a message may be.
    """
    if size_bytes > LARGEST_RESPONSE_BYTES:
        raise ResultTooLargeError(
            f"the result has {size_bytes >> 20} MiB, and at most {LARGEST_RESPONSE_BYTES >> 20} MiB can be "
            "sent at once; ask for less (a LIMIT, fewer columns, a smaller page)"
        )


def status_of(exc: errors.QuakeGridError) -> grpc.StatusCode:
    """The gRPC status code that tells a client of this error."""
    return next((code for kind, code in _CODES if isinstance(exc, kind)), grpc.StatusCode.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Threads:
    """Where servicers that are no coroutines run.

    Args:
        calls: most calls, which take milliseconds.
        slow_calls: calls that may take minutes, so that they leave the others their threads.
        slow_methods: beginnings of the methods of those, such as "/quakegrid.api.v1.Database/".
        streams: streams, one each as long as it lasts.
    """

    calls: Executor
    slow_calls: Executor
    slow_methods: tuple[str, ...]
    streams: Executor

    def of_calls(self, method: str) -> Executor:
        """Where a method's calls run."""
        return self.slow_calls if method.startswith(self.slow_methods) else self.calls


class StatusCodes(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Answers every error of a servicer with its status code and one line of text.

    Args:
        threads: where calls and streams of servicers that are no coroutines run, one each.
    """

    def __init__(self, threads: Threads) -> None:
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
            if wrapped is not None:  # methods that do not exist would fill the memory
                self._handlers[method] = wrapped
        return wrapped


def _wrap(method: str, handler: Any, threads: Threads) -> Any:
    """A handler that answers errors; of any kind but those that we do not have."""
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
        answer = _unary(handler.unary_unary, threads.of_calls(method))
        return grpc.unary_unary_rpc_method_handler(answer, **codec)
    if handler.unary_stream and inspect.iscoroutinefunction(handler.unary_stream):
        codec["response_serializer"] = _serialize_once(handler.response_serializer)
        return grpc.unary_stream_rpc_method_handler(_aio_call(handler.unary_stream), **codec)
    if handler.unary_stream and inspect.isgeneratorfunction(handler.unary_stream):
        return grpc.unary_stream_rpc_method_handler(
            _streaming(handler.unary_stream, threads.streams), **codec
        )
    if handler.stream_stream and inspect.iscoroutinefunction(handler.stream_stream):
        codec["response_serializer"] = _serialize_once(handler.response_serializer)
        return grpc.stream_stream_rpc_method_handler(_aio_call(handler.stream_stream), **codec)
    if handler.stream_stream and inspect.isasyncgenfunction(handler.stream_stream):
        return grpc.stream_stream_rpc_method_handler(_aio_stream(handler.stream_stream), **codec)
    return handler


def _serialize_once(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Take bytes as they are: a message that goes to many is serialized by whoever made it."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)


class StreamCall:
    """A stream that a servicer makes in a thread: its context there, and the way of its responses.

    gRPC's own bridge tells a thread nothing of a client that has left.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.responses: asyncio.Queue[Any] = asyncio.Queue()
        self._loop = loop
        self._places = threading.Semaphore(STREAM_RESPONSES)
        self._has_ended = threading.Event()
        self._callbacks: list[Callable[[], None]] = []

    def is_active(self) -> bool:
        """Whether somebody still waits for responses."""
        return not self._has_ended.is_set()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have a function called when the call ends; False if it has."""
        self._callbacks.append(callback)
        return self.is_active()

    def pump(self, responses: Iterator[Any]) -> None:
        """Thread: hand on responses, none ahead of a client that does not read."""
        last: Exception | None = None
        try:
            while self._places.acquire() and self.is_active():
                response = next(responses, _END)
                if response is _END:
                    break
                self._put(response)
        except Exception as exc:  # noqa: BLE001  raised again in the loop
            last = exc
        self._put(last or _END)

    def taken(self) -> None:
        """A response has been sent."""
        self._places.release()

    def end(self) -> None:
        """The client has left or got all."""
        self._has_ended.set()
        self._places.release()
        for callback in self._callbacks:
            callback()

    def _put(self, item: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            self._loop.call_soon_threadsafe(self.responses.put_nowait, item)


class UnaryCall:
    """A call that a servicer answers in a thread: its context there."""

    def __init__(self) -> None:
        self._has_ended = threading.Event()

    def is_active(self) -> bool:
        """Whether somebody still waits for the response."""
        return not self._has_ended.is_set()

    def end(self) -> None:
        """The client has left or got its response."""
        self._has_ended.set()


def _unary(behaviour: Callable[[Any, Any], Any], threads: Executor) -> Callable[[Any, Any], Awaitable[Any]]:
    """A call that waits for a thread is forgotten when its client leaves; one that runs can ask."""

    def respond(request: Any, call: UnaryCall) -> Any:
        response = behaviour(request, call)
        check_size(response.ByteSize())
        return response

    async def answer(request: Any, _context: Any) -> Any:
        call = UnaryCall()
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, respond, request, call)
        finally:
            call.end()

    return _aio_call(answer)


def _streaming(
    behaviour: Callable[[Any, Any], Iterator[T]], threads: Executor
) -> Callable[[Any, Any], AsyncIterator[T]]:
    async def answer(request: Any, _context: Any) -> AsyncIterator[T]:
        loop = asyncio.get_running_loop()
        call = StreamCall(loop)
        try:
            loop.run_in_executor(threads, call.pump, behaviour(request, call))
            while (response := await call.responses.get()) is not _END:
                if isinstance(response, Exception):
                    raise response
                yield response
                call.taken()
        finally:
            call.end()

    return _aio_stream(answer)


def _aio_call(behaviour: Callable[[Any, Any], Awaitable[T]]) -> Callable[[Any, Any], Awaitable[T | None]]:
    async def answer(request: Any, context: Any) -> T | None:
        try:
            return await behaviour(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as exc:  # noqa: BLE001  the loop's edge
            await _abort(context, exc)
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
            await _abort(context, exc)

    return answer


async def _abort(context: Any, exc: Exception) -> None:
    """End a call with the code and the words for an error, and its reason for programs."""
    code, words = judge(exc)
    reason = exc.reason if isinstance(exc, errors.QuakeGridError) else "INTERNAL"
    await context.abort(code, words, error_details.metadata(reason, code, words))


def judge(exc: BaseException) -> tuple[grpc.StatusCode, str]:
    """What to answer for an error, after writing to our own log what its owner must know.

    A reason that quotes what a client sent may be of any length; one that is too long for gRPC would reach
    the client as RESOURCE_EXHAUSTED, without a word of it.
    """
    if isinstance(exc, errors.QuakeGridError):
        if isinstance(exc, DiskFullError | DiskFaultError | DatabaseDamagedError):
            logger.error("write_failed reason=%s", exc)
        return status_of(exc), _shorten(str(exc))
    logger.error("request_failed", exc_info=exc)
    return grpc.StatusCode.INTERNAL, _shorten(f"the dbserver failed on the request: {exc!r}")


def _shorten(reason: str) -> str:
    """Cut the middle, since the remedy stands at the end."""
    longest = LONGEST_ASCII_REASON if reason.isascii() else LONGEST_REASON
    if len(reason) <= longest:
        return reason
    half = LONGEST_REASON // 2
    return f"{reason[:half]} … {reason[-half:]}"
