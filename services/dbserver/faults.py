"""SQLite's failures turned into our errors, and our errors into gRPC status codes.

Every message names the file and what to do; the server goes on after all of them.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Never, TypeVar

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
    if str(exc) == "not authorized":  # SQLite's parser reports some of them as plain errors
        primary = sqlite3.SQLITE_AUTH
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
            return damaged(path, str(exc))
        case sqlite3.SQLITE_AUTH:
            return ForbiddenSqlError(
                "SQL from outside may only read: give one SELECT, or a PRAGMA that informs"
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return errors.StateError(f"{path.name} refuses the change: {exc}")
        case _:
            return errors.UsageError(f"{path.name} refuses the SQL or its arguments: {exc}")


def damaged(path: Path, reason: str) -> DatabaseDamagedError:
    """The error for a damaged file, with the remedy."""
    return DatabaseDamagedError(
        f"{path} is damaged or no SQLite database: {' '.join(reason.split())}; move it away and put a "
        "copy in its place (`quakegrid db backup` makes them), or save what can be read with "
        f"`sqlite3 {path} .recover | sqlite3 NEWFILE`"
    )


def status_of(exc: errors.QuakeGridError) -> grpc.StatusCode:
    """The gRPC status code that tells a client of this error."""
    return next((code for kind, code in _CODES if isinstance(exc, kind)), grpc.StatusCode.UNKNOWN)


class StatusCodes(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Answers every error of a servicer with its status code and one line of text."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler that gRPC found for a call."""
        handler = continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith("/quakegrid."):
            return handler  # health and reflection answer for themselves
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(_streaming(handler.unary_stream), **codec)
        return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary), **codec)


def _unary(behaviour: Callable[[Any, grpc.ServicerContext], T]) -> Callable[[Any, grpc.ServicerContext], T]:
    def answer(request: Any, context: grpc.ServicerContext) -> T:
        try:
            return behaviour(request, context)
        except Exception as exc:  # noqa: BLE001  the loop's edge
            _refuse(exc, context)

    return answer


def _streaming(
    behaviour: Callable[[Any, grpc.ServicerContext], Iterator[T]],
) -> Callable[[Any, grpc.ServicerContext], Iterator[T]]:
    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[T]:
        try:
            yield from behaviour(request, context)
        except Exception as exc:  # noqa: BLE001  the loop's edge
            _refuse(exc, context)

    return answer


def _refuse(exc: Exception, context: grpc.ServicerContext) -> Never:
    if isinstance(exc, errors.QuakeGridError):
        if isinstance(exc, DiskFullError | DatabaseDamagedError):
            logger.error("write_failed reason=%s", exc)
        context.abort(status_of(exc), str(exc))
    logger.error("request_failed", exc_info=exc)
    context.abort(grpc.StatusCode.INTERNAL, f"the dbserver failed on the request: {exc!r}")
