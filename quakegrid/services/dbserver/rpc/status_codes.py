"""Errors of the dbserver as gRPC status codes with one line of text."""

from __future__ import annotations

import logging

import grpc

from quakegrid import errors
from quakegrid.jobs import texts
from quakegrid.services.dbserver.store import bells, sqlite_errors
from quakegrid.transport import error_details, grpc_channels

# Smaller than gRPC's limit, since other fields are sent with a result.
LARGEST_RESPONSE_BYTES = grpc_channels.MAX_MESSAGE_BYTES - (64 << 10)
# Characters. gRPC's headers may have 8 KiB; a character takes up to three bytes there in ASCII, else twelve.
LONGEST_ASCII_REASON = 2000
LONGEST_REASON = 600
# Errors that the administrator has to fix.
_OWNERS_CONCERN = (
    sqlite_errors.DiskFullError,
    sqlite_errors.DiskFaultError,
    sqlite_errors.DatabaseDamagedError,
)
logger = logging.getLogger("dbserver")


class ResultTooLargeError(errors.QuakeGridError):
    """A response is larger than a message may be."""

    reason = "RESULT_TOO_LARGE"


# The first class that matches counts. Any other error of ours becomes UNKNOWN, which keeps its words.
_CODES: tuple[tuple[type[errors.QuakeGridError], grpc.StatusCode], ...] = (
    (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
    (errors.UsageError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.StateError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.PeerUnreachableError, grpc.StatusCode.UNAVAILABLE),
    (errors.NotAllowedError, grpc.StatusCode.PERMISSION_DENIED),
    (sqlite_errors.ForbiddenSqlError, grpc.StatusCode.PERMISSION_DENIED),
    # Clients try again after RESOURCE_EXHAUSTED and UNAVAILABLE. After any other code they would fail again.
    (sqlite_errors.DiskFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (sqlite_errors.DiskFaultError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.TooManyTriesError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (bells.TooManyFollowersError, grpc.StatusCode.FAILED_PRECONDITION),
    (ResultTooLargeError, grpc.StatusCode.OUT_OF_RANGE),
    (sqlite_errors.DatabaseBusyError, grpc_channels.NOT_NOW),
    (sqlite_errors.DatabaseDamagedError, grpc.StatusCode.DATA_LOSS),
)


def check_size(size_bytes: int) -> None:
    """Refuse a response that is too large for gRPC.

    Raises:
        ResultTooLargeError: the response is larger than a message may be.
    """
    if size_bytes > LARGEST_RESPONSE_BYTES:
        raise ResultTooLargeError(
            f"the result has {size_bytes >> 20} MiB, and at most {LARGEST_RESPONSE_BYTES >> 20} MiB can be "
            "sent at once; ask for less (a LIMIT, fewer columns, a smaller page)"
        )


def status_of(exc: errors.QuakeGridError) -> grpc.StatusCode:
    """The gRPC status code that tells a client of this error."""
    return next((code for kind, code in _CODES if isinstance(exc, kind)), grpc.StatusCode.UNKNOWN)


def judge(exc: BaseException) -> tuple[grpc.StatusCode, str]:
    """The status code and the message that answer an error; logs errors that the administrator must fix.

    The message is cut: it may quote a client's input of any length, and gRPC would replace a message that is
    too long by RESOURCE_EXHAUSTED. The error gives up its traceback: that has the frames of the call with all
    rows that were read, and is in a cycle with what waited for the call, which Python would find much later.
    """
    try:
        return _judge(exc)
    finally:
        _forget_frames(exc)


def _judge(exc: BaseException) -> tuple[grpc.StatusCode, str]:
    if isinstance(exc, errors.QuakeGridError):
        if isinstance(exc, _OWNERS_CONCERN):
            logger.error("write_failed reason=%s", exc)
        return status_of(exc), _shorten(str(exc))
    logger.error("request_failed", exc_info=exc)
    return grpc.StatusCode.INTERNAL, _shorten(f"the dbserver failed on the request: {exc!r}")


def refusal(exc: BaseException) -> tuple[grpc.StatusCode, str, error_details.Metadata]:
    """The code, the message and the reason for programs with which a failed call is aborted."""
    code, words = judge(exc)
    reason = exc.reason if isinstance(exc, errors.QuakeGridError) else "INTERNAL"
    return code, words, error_details.metadata(reason, code, words)


def _forget_frames(exc: BaseException) -> None:
    """Forget the tracebacks of an error, and of those that led to it."""
    rest: list[BaseException | None] = [exc]
    while rest:
        error = rest.pop()
        if error is not None and error.__traceback__ is not None:  # else it was here already
            error.__traceback__ = None
            rest += [error.__cause__, error.__context__]


def _shorten(reason: str) -> str:
    """Cut the middle, since the fix is named at the end."""
    if reason.isascii() and len(reason) <= LONGEST_ASCII_REASON:
        return reason
    return texts.shorten(reason, LONGEST_REASON, texts.Cut.MIDDLE)
