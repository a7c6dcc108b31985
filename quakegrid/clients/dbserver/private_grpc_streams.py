"""Streams of gRPC that the waiting thread drives itself, without a change of threads.

gRPC's public client has one thread that takes requests from an iterator, and another one that waits for
events. For a call that waits for its answer these cost more than the call. This module does for a stream what
that client does for unary calls, on the same inner classes. The classes are not public. If they are missing
or differ, the public client is used. The module sends bytes, and opens no connection.
"""

from __future__ import annotations

import queue
from typing import Any, Protocol

import grpc

from quakegrid.transport.renewed_channels import RenewedChannel

# The status codes, by their numbers on the wire.
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class BrokenStreamError(grpc.RpcError):
    """The stream ended, or one call failed. It has a code and details, as the errors of stubs."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        """The status code."""
        return self._code

    def details(self) -> str:
        """One line for people."""
        return self._details


class MessageStream(Protocol):
    """A stream on which each message gets an answer, one after another."""

    def exchange(self, message: bytes) -> bytes:
        """Send a message and wait for its answer; by one thread at a time.

        Raises:
            BrokenStreamError: the stream has ended. The code is UNAVAILABLE also if this side ended it.
        """

    def cancel(self) -> None:
        """End the stream; from any thread."""


def open_stream(channel: grpc.Channel, method: str) -> MessageStream:
    """Open a stream. Its first message shows whether the service answers.

    Args:
        channel: it connects when it is first used.
        method: `/package.Service/Method`, streaming both ways.
    Raises:
        BrokenStreamError: the channel is closed.
    """
    if isinstance(channel, RenewedChannel):
        channel = channel.current()
    try:
        return OwnThreadStream(channel, method)
    except (ImportError, AttributeError, TypeError):  # another version of gRPC, without these classes
        return ThreadedStream(channel, method)
    except ValueError as exc:  # gRPC's word for it
        raise _ended(grpc.StatusCode.UNAVAILABLE, str(exc)) from exc


class ThreadedStream:
    """By the public client."""

    def __init__(self, channel: grpc.Channel, method: str) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        open_call: Any = channel.stream_stream  # the stubs want serializers
        self._responses = open_call(method)(iter(self._requests.get, None))

    def exchange(self, message: bytes) -> bytes:
        """As the protocol says."""
        self._requests.put(message)
        try:
            return next(self._responses)  # type: ignore[no-any-return]
        except StopIteration:
            raise _ended(grpc.StatusCode.OK, "") from None
        except grpc.RpcError as exc:
            raise _ended(exc.code(), exc.details() or "") from exc

    def cancel(self) -> None:
        """As the protocol says."""
        self._requests.put(None)
        self._responses.cancel()


class OwnThreadStream:
    """By gRPC's inner classes: a call with a completion queue of its own, waited on by who asks.

    Each batch of operations ends with one event; a message and its answer are one batch.
    """

    def __init__(self, channel: Any, method: str) -> None:
        from grpc._cython import cygrpc  # type: ignore[attr-defined]  # noqa: PLC0415

        self._send_operation = cygrpc.SendMessageOperation
        self._receive_operation = cygrpc.ReceiveMessageOperation
        self._answer_kind = cygrpc.OperationType.receive_message
        self._end_kind = cygrpc.OperationType.receive_status_on_client
        # Batches whose event has not come. Without any, gRPC has freed the call, and must not be asked.
        self._due_count = 3
        self._end = _ended(grpc.StatusCode.UNAVAILABLE, "")
        self._call = channel._channel.segregated_call(  # noqa: SLF001
            cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
            method.encode(),
            None,  # the channel's own host
            None,  # no deadline
            None,  # no metadata
            None,  # no credentials but the channel's
            (
                ((cygrpc.SendInitialMetadataOperation(None, 0),), None),
                ((cygrpc.ReceiveStatusOnClientOperation(0),), None),
                ((cygrpc.ReceiveInitialMetadataOperation(0),), None),
            ),
            None,
        )

    def exchange(self, message: bytes) -> bytes:
        """As the protocol says."""
        self._due_count += self._call.operate(
            (self._send_operation(message, 0), self._receive_operation(0)), None
        )
        while self._due_count:
            event = self._call.next_event()
            self._due_count -= 1
            operation = event.batch_operations[-1]
            kind = operation.type()
            if kind == self._answer_kind:
                answer = operation.message()
                if answer is not None:  # None at the end of the stream
                    return answer  # type: ignore[no-any-return]
            elif kind == self._end_kind:
                self._end = _ended(STATUS_CODES[operation.code()], operation.details())
        raise self._end

    def cancel(self) -> None:
        """As the protocol says."""
        self._call.cancel(grpc.StatusCode.CANCELLED.value[0], "the stream is closed")


def _ended(code: grpc.StatusCode, details: str | bytes) -> BrokenStreamError:
    words = details.decode(errors="replace") if isinstance(details, bytes) else details
    if code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
        return BrokenStreamError(grpc.StatusCode.UNAVAILABLE, words or "the stream has ended")
    return BrokenStreamError(code, words)
