"""How our errors end gRPC calls of the broker."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.services.broker.rpc.answers import answering
from quakegrid.transport import error_details, grpc_channels


class Aborted(Exception):  # noqa: N818 - as gRPC's own, which is private
    """A call was ended."""


class Context:
    """Of one call."""

    def __init__(self) -> None:
        self.answer: tuple[grpc.StatusCode, str] | None = None
        self.metadata: error_details.Metadata = ()

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: error_details.Metadata
    ) -> None:
        """End the call."""
        self.answer = code, details
        self.metadata = trailing_metadata
        raise Aborted


class DeepStateError(errors.StateError):
    """A kind of a kind."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.QuakeGridError("the disk is full"), grpc.StatusCode.UNKNOWN),
        (errors.PayloadError("the disk is full"), grpc.StatusCode.UNKNOWN),
        (errors.NotFoundError("the disk is full"), grpc.StatusCode.NOT_FOUND),
        (errors.PeerUnreachableError("the disk is full"), grpc_channels.NOT_NOW),
        (DeepStateError("the disk is full"), grpc.StatusCode.FAILED_PRECONDITION),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_every_error_of_ours_is_told_in_words(error: errors.QuakeGridError, code: grpc.StatusCode) -> None:
    """Such as that the dbserver's disk is full."""
    context: Any = Context()

    async def call() -> None:
        async with answering(context):
            raise error

    with pytest.raises(Aborted):
        asyncio.run(call())

    assert context.answer == (code, "the disk is full")
    assert context.metadata == error_details.metadata(error.reason, code, "the disk is full")
