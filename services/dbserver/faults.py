"""SQLite's failures turned into our errors, and our errors into gRPC status codes.

Every message names the file and what to do; the server goes on after all of them.
"""

from __future__ import annotations

import inspect
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc

from quakegrid import errors

logger = logging.getLogger("dbserver")
T = TypeVar("T")


class DiskFullError(errors.QuakeGridError):
    """The database file cannot grow."""


class DatabaseBusyError(errors.QuakeGridError):
    """Another process holds the database's write lock."""


class DatabaseDamagedError(errors.QuakeGridError):
    """The database file is not one, or is damaged."""


class ForbiddenSqlError(errors.QuakeGridError):
    """SQL that would write, on a connection that only reads."""


class TooManyFollowersError(errors.QuakeGridError):
    """All places for followers of logs are taken."""


# The first class that matches counts; anything else of ours is UNKNOWN, which keeps its words.
_CODES: tuple[tuple[type[errors.QuakeGridError], grpc.StatusCode], ...] = (
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.UsageError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.StateError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.PeerUnreachableError, grpc.StatusCode.UNAVAILABLE),
    (ForbiddenSqlError, grpc.StatusCode.PERMISSION_DENIED),
    (DiskFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (TooManyFollowersError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DatabaseBusyError, grpc.StatusCode.UNAVAILABLE),
    (DatabaseDamagedError, grpc.StatusCode.DATA_LOSS),
)


def from_sqlite(exc: sqlite3.Error, path: Path) -> errors.QuakeGridError:
    """The error of ours for one of SQLite's on the database file `path`."""
    primary = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    match primary:
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            text = f"cannot write to {path}: {exc}; free space on its disk (or raise the quota) and try again"
            return DiskFullError(text)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return errors.StateError(
                f"cannot write to {path}: {exc}; make the file and its directory writable for this user"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseBusyError(
                f"another process holds {path}: {exc}; only the dbserver may have it open"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return DatabaseDamagedError(
                f"{path} is damaged or no SQLite database: {exc}; restore a copy of it"
            )
        case sqlite3.SQLITE_AUTH:
            return ForbiddenSqlError(
                "SQL from outside may only read: give one SELECT, or a PRAGMA that informs"
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return errors.StateError(f"{path.name} refuses the change: {exc}")
        case _:
            return errors.UsageError(f"{path.name} refuses the SQL or its arguments: {exc}")


def status_of(exc: errors.QuakeGridError) -> grpc.StatusCode:
    """The gRPC status code that tells a client of this error."""
    return next((code for kind, code in _CODES if isinstance(exc, kind)), grpc.StatusCode.UNKNOWN)


class StatusCodes(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Answers every error of a servicer with its status code and one line of text."""

    def __init__(self) -> None:
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
            wrapped = _wrap(await continuation(handler_call_details))
            if wrapped is not None:  # methods that do not exist would fill the memory
                self._handlers[method] = wrapped
        return wrapped


def _wrap(handler: Any) -> Any:
    """A handler that answers errors; of any kind but those that we do not have."""
    if handler is None:
        return None
    codec = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary and not inspect.iscoroutinefunction(handler.unary_unary):
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary), **codec)
    if handler.unary_stream and inspect.isasyncgenfunction(handler.unary_stream):
        codec["response_serializer"] = _serialize_once(handler.response_serializer)
        return grpc.unary_stream_rpc_method_handler(_aio_stream(handler.unary_stream), **codec)
    if handler.unary_stream and inspect.isgeneratorfunction(handler.unary_stream):
        return grpc.unary_stream_rpc_method_handler(_streaming(handler.unary_stream), **codec)
    if handler.stream_stream and inspect.isasyncgenfunction(handler.stream_stream):
        return grpc.stream_stream_rpc_method_handler(_aio_stream(handler.stream_stream), **codec)
    return handler


def _serialize_once(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Take bytes as they are: a message that goes to many is serialized by whoever made it."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)


class CallContext:
    """A call as a servicer in a thread sees it, with the question whether anyone still waits for it."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context
        self._has_ended = threading.Event()
        context.add_callback(self._has_ended.set)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def is_active(self) -> bool:
        """Whether the call has not ended."""
        return not self._has_ended.is_set()


def _unary(behaviour: Callable[[Any, Any], T]) -> Callable[[Any, grpc.ServicerContext], T]:
    def answer(request: Any, context: grpc.ServicerContext) -> T:
        try:
            return behaviour(request, context)
        except Exception as exc:  # noqa: BLE001  the loop's edge
            context.abort(*_judge(exc))

    return answer


def _streaming(
    behaviour: Callable[[Any, Any], Iterator[T]],
) -> Callable[[Any, grpc.ServicerContext], Iterator[T]]:
    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[T]:
        try:
            yield from behaviour(request, CallContext(context))
        except Exception as exc:  # noqa: BLE001  the loop's edge
            context.abort(*_judge(exc))

    return answer


def _aio_stream(
    behaviour: Callable[[Any, Any], AsyncIterator[T]],
) -> Callable[[Any, Any], AsyncIterator[T]]:
    async def answer(request: Any, context: Any) -> AsyncIterator[T]:
        try:
            async for response in behaviour(request, context):
                yield response
        except Exception as exc:  # noqa: BLE001  the loop's edge
            await context.abort(*_judge(exc))

    return answer


def _judge(exc: Exception) -> tuple[grpc.StatusCode, str]:
    """What to answer for an error, after writing to our own log what its owner must know."""
    if isinstance(exc, errors.QuakeGridError):
        if isinstance(exc, DiskFullError | DatabaseDamagedError):
            logger.error("write_failed reason=%s", exc)
        return status_of(exc), str(exc)
    logger.error("request_failed", exc_info=exc)
    return grpc.StatusCode.INTERNAL, f"the dbserver failed on the request: {exc!r}"
