"""Reasons of failed calls for programs: a `google.rpc.ErrorInfo` beside the status code and the message.

A server puts it into the trailing metadata from which gRPC reads status details in every language. Its domain
is "quakegrid" and its reason an error's `reason`, such as "NOT_FOUND". Does not depend on any service.
Google's messages are imported when a call fails, so that programs start without them.
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from quakegrid import errors

DOMAIN = "quakegrid"
# gRPC's own key for a serialized `google.rpc.Status`.
METADATA_KEY = "grpc-status-details-bin"
# gRPC accepts 8 KiB of headers, which include our message and its own headers.
ROOM_BYTES = 7 << 10

Metadata = tuple[tuple[str, bytes], ...]


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], code: grpc.StatusCode, exc: errors.QuakeGridError
) -> NoReturn:
    """End a call with one of our errors: its code, its message and its reason."""
    words = str(exc)
    await context.abort(code, words, metadata(exc.reason, code, words))
    raise AssertionError("gRPC's abort raises")


def metadata(reason: str, code: grpc.StatusCode, words: str) -> Metadata:
    """The trailing metadata with the reason of an error; empty if there is no room for it beside the message.

    Args:
        reason: of the error, as in `errors`.
        code: that the call ends with.
        words: the same as the details of the call.
    """
    from google.protobuf import any_pb2  # noqa: PLC0415  see above
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    status = status_pb2.Status(code=code.value[0], message=words, details=[info])
    value = status.SerializeToString()
    if _header_bytes(words) + 4 * len(value) // 3 > ROOM_BYTES:  # binary values may travel as base64
        return ()
    return ((METADATA_KEY, value),)


def reason_of(exc: grpc.RpcError) -> str:
    """The reason that a service of ours gave for a failed call; empty if it gave none."""
    read_metadata = getattr(exc, "trailing_metadata", None)
    found = dict(read_metadata() or ()) if read_metadata else {}
    value = found.get(METADATA_KEY)
    return _read_reason(value) if isinstance(value, bytes) else ""


def _read_reason(value: bytes) -> str:
    from google.protobuf.message import DecodeError  # noqa: PLC0415  see above
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    info = error_details_pb2.ErrorInfo()
    try:
        for detail in status_pb2.Status.FromString(value).details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                return str(info.reason)
    except DecodeError:  # from a proxy, or from another service
        return ""
    return ""


def _header_bytes(words: str) -> int:
    """How many bytes a message takes in a header, where all but printable ASCII is percent-encoded."""
    return sum(
        1 if " " <= letter <= "~" and letter != "%" else 3 * len(letter.encode(errors="replace"))
        for letter in words
    )
