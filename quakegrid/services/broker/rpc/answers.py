"""Answers gRPC calls with our errors, in the same way for all services of the broker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from quakegrid import errors
from quakegrid.services.broker.guard import BrokerFailedError
from quakegrid.transport import error_details, grpc_channels

Context = grpc.aio.ServicerContext[Any, Any]
CODES: dict[type[errors.QuakeGridError], grpc.StatusCode] = {
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.StateError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UsageError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotAllowedError: grpc.StatusCode.PERMISSION_DENIED,
    # Not UNAVAILABLE, which would mean that the broker itself is not available.
    errors.PeerUnreachableError: grpc_channels.NOT_NOW,
    # The caller waits for the next broker, as after any other end of a broker.
    BrokerFailedError: grpc.StatusCode.UNAVAILABLE,
}


@contextlib.asynccontextmanager
async def answering(context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[None]:
    """End the call with the code, the words and the reason of an error that is raised inside."""
    try:
        yield
    except errors.QuakeGridError as exc:
        code = next((code for kind, code in CODES.items() if isinstance(exc, kind)), grpc.StatusCode.UNKNOWN)
        await error_details.abort(context, code, exc)
