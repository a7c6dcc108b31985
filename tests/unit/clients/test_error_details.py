"""Reasons of failed calls that programs can read, in and out of the metadata of gRPC."""

from __future__ import annotations

import re

import grpc
import pytest

from quakegrid import errors
from quakegrid.clients.dbserver.private_grpc_streams import BrokenStreamError
from quakegrid.services.broker.guard import BrokerFailedError
from quakegrid.services.dbserver.store import sqlite_errors
from quakegrid.transport import error_details, grpc_channels

ADDRESS = "10.0.0.1:1911"


class FailedCall(grpc.RpcError):
    """What a stub raises, with trailing metadata."""

    def __init__(
        self, code: grpc.StatusCode, words: str, metadata: tuple[tuple[str, str | bytes], ...] | None
    ) -> None:
        super().__init__()
        self._answer = code, words, metadata

    def code(self) -> grpc.StatusCode:
        """The status code."""
        return self._answer[0]

    def details(self) -> str:
        """The service's words."""
        return self._answer[1]

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        """What came after the answer."""
        return self._answer[2]


def failed(
    error: errors.QuakeGridError, code: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION
) -> FailedCall:
    """A call that a server of ours ended with an error."""
    return FailedCall(code, str(error), error_details.metadata(error.reason, code, str(error)))


def kinds(kind: type[errors.QuakeGridError]) -> set[type[errors.QuakeGridError]]:
    """All kinds of an error that are defined in the project."""
    found = {kind}
    for each in kind.__subclasses__():
        found |= kinds(each)
    return {each for each in found if each.__module__.startswith(("quakegrid", "services"))}


def test_reason_is_the_name_of_the_error() -> None:
    """Shared errors and the services' own ones: upper case, as ErrorInfo asks for."""
    named = {kind for kind in kinds(errors.QuakeGridError) if "reason" in vars(kind)}
    assert {sqlite_errors.DiskFullError, BrokerFailedError, *errors.BY_REASON.values()} < named

    for kind in named - {errors.QuakeGridError}:
        words = re.findall(r"[A-Z][a-z]+", kind.__name__.removesuffix("Error"))
        assert kind.reason == "_".join(words).upper(), kind


def test_every_shared_error_comes_back_as_itself() -> None:
    """The table of reasons has every error that clients and servers share."""
    shared = {
        kind
        for kind in kinds(errors.QuakeGridError)
        if kind.__module__ == errors.__name__ and kind is not errors.QuakeGridError
    }

    assert set(errors.BY_REASON.values()) == shared


@pytest.mark.parametrize("kind", errors.BY_REASON.values(), ids=errors.BY_REASON)
def test_reason_tells_more_than_the_code(kind: type[errors.QuakeGridError]) -> None:
    """One code stands for many errors."""
    error = grpc_channels.translate(failed(kind("why")), "broker", ADDRESS)

    assert type(error) is kind
    assert str(error) == "why"


def test_unknown_reason_leaves_the_code() -> None:
    """A newer service has reasons that we do not know."""

    class DiskMeltedError(errors.QuakeGridError):
        reason = "DISK_MELTED"

    call = failed(DiskMeltedError("it is hot"))

    assert error_details.reason_of(call) == "DISK_MELTED"
    assert type(grpc_channels.translate(call, "dbserver", ADDRESS)) is errors.StateError


@pytest.mark.parametrize(
    "call",
    [
        BrokenStreamError(grpc.StatusCode.NOT_FOUND, "why"),
        FailedCall(grpc.StatusCode.NOT_FOUND, "why", None),
        FailedCall(grpc.StatusCode.NOT_FOUND, "why", ()),
        FailedCall(grpc.StatusCode.NOT_FOUND, "why", (("server", "of another kind"),)),
        FailedCall(grpc.StatusCode.NOT_FOUND, "why", ((error_details.METADATA_KEY, b"\xff\xff"),)),
        FailedCall(grpc.StatusCode.NOT_FOUND, "why", ((error_details.METADATA_KEY, b""),)),
    ],
    ids=["no metadata", "none", "empty", "others", "damaged", "no details"],
)
def test_call_without_a_reason_is_told_by_its_code(call: grpc.RpcError) -> None:
    """Such as one that an older service, or gRPC itself, ended."""
    assert error_details.reason_of(call) == ""
    assert type(grpc_channels.translate(call, "dbserver", ADDRESS)) is errors.NotFoundError


def test_reason_of_another_domain_is_none_of_ours() -> None:
    """A proxy may use the same message for its own reasons."""
    from google.protobuf import any_pb2
    from google.rpc import error_details_pb2, status_pb2

    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason="NOT_FOUND", domain="proxy.example"))
    value = status_pb2.Status(code=9, message="why", details=[info]).SerializeToString()
    call = FailedCall(grpc.StatusCode.FAILED_PRECONDITION, "why", ((error_details.METADATA_KEY, value),))

    assert error_details.reason_of(call) == ""


@pytest.mark.parametrize("words", ["%" * 2000, "é" * 1200, "\N{VOLCANO}" * 600])
def test_words_have_precedence_over_the_reason(words: str) -> None:
    """Headers that are too long would reach the client without a word."""
    assert error_details.metadata("NOT_FOUND", grpc.StatusCode.NOT_FOUND, words) == ()


def test_longest_ascii_words_have_room_for_the_reason() -> None:
    """The dbserver shortens what it says to this."""
    words = "x" * 2000

    assert error_details.reason_of(failed(errors.UsageError(words))) == "USAGE"
