"""Streams of gRPC that whoever waits drives itself, without a change of threads.

gRPC's public client has one thread that takes requests from an iterator and another one that waits for
events: for a call that waits for its answer these cost more than the call. Below is what that client does
for unary calls, done for a stream, on the same inner classes. They are not public: where they are
missing or differ, the public client serves. Knows bytes; knows no message, and opens no connection.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Any, Protocol

import grpc

# By their numbers on the wire.
STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class BrokenStreamError(grpc.RpcError):
    """The stream ended, or one call failed, with a status code and words; as what a stub raises."""

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
    """Messages there and back."""

    def send(self, message: bytes) -> None:
        """Send a message, or have `read` send it when others are through; from any thread."""

    def read(self) -> bytes:
        """Wait for the next message; by one thread at a time.

        Raises:
            BrokenStreamError: the stream has ended; UNAVAILABLE also if we ended it.
        """

    def cancel(self) -> None:
        """End it; from any thread."""


def open_stream(channel: grpc.Channel, method: str) -> MessageStream:
    """Open a stream; that nobody answers shows when it is read.

    Args:
        channel: a connection, or one to be.
        method: `/package.Service/Method`, streaming both ways.
    Raises:
        BrokenStreamError: the channel is closed.
    """
    try:
        return OwnThreadStream(channel, method)
    except (ImportError, AttributeError, TypeError):  # another gRPC than we know
        return ThreadedStream(channel, method)
    except ValueError as exc:  # gRPC's word for it
        raise _ended(grpc.StatusCode.UNAVAILABLE, str(exc)) from exc


class ThreadedStream:
    """By the public client."""

    def __init__(self, channel: grpc.Channel, method: str) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        open_call: Any = channel.stream_stream  # the stubs want serializers
        self._responses = open_call(method)(iter(self._requests.get, None))

    def send(self, message: bytes) -> None:
        """As the protocol says."""
        self._requests.put(message)

    def read(self) -> bytes:
        """As the protocol says."""
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
    """By gRPC's inner classes: a call with a completion queue of its own, waited on by who reads.

    gRPC takes one message to send and one to receive at a time; each batch of operations ends with one event.
    """

    def __init__(self, channel: Any, method: str) -> None:
        from grpc._cython import cygrpc  # type: ignore[attr-defined]  # noqa: PLC0415

        self._lock = threading.Lock()
        self._outbox: deque[bytes] = deque()
        self._is_sending = False
        self._is_receiving = False
        self._due_count = 3
        self._message: bytes | None = None
        self._end: BrokenStreamError | None = None
        self._cygrpc = cygrpc
        self._types = cygrpc.OperationType
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

    def send(self, message: bytes) -> None:
        """As the protocol says."""
        with self._lock:
            self._outbox.append(message)
            if not self._is_sending:
                self._send_next()

    def read(self) -> bytes:
        """As the protocol says."""
        with self._lock:
            if not self._is_receiving:
                self._is_receiving = self._begin(self._cygrpc.ReceiveMessageOperation(0))
        while self._message is None:
            if not self._due_count:  # gRPC has let go of the call: nothing may be asked of it
                raise self._end or _ended(grpc.StatusCode.UNAVAILABLE, "")
            self._take(self._call.next_event())
        message, self._message = self._message, None
        return message

    def cancel(self) -> None:
        """As the protocol says."""
        self._call.cancel(grpc.StatusCode.CANCELLED.value[0], "the stream is closed")

    def _send_next(self) -> None:
        self._is_sending = self._begin(self._cygrpc.SendMessageOperation(self._outbox.popleft(), 0))

    def _begin(self, operation: Any) -> bool:
        """Begin an operation; false if the call has ended."""
        has_begun = bool(self._call.operate((operation,), None))
        self._due_count += has_begun
        return has_begun

    def _take(self, event: Any) -> None:
        """Note what an event tells: a message, the end, or that the next one may be sent."""
        with self._lock:
            self._due_count -= 1
            [operation] = event.batch_operations
            kind = operation.type()
            if kind == self._types.receive_message:
                self._is_receiving = False
                self._message = operation.message()  # None at the end of the stream
            elif kind == self._types.receive_status_on_client:
                self._end = _ended(STATUS_CODES[operation.code()], operation.details())
            elif kind == self._types.send_message:
                self._is_sending = False
                if self._outbox:
                    self._send_next()


def _ended(code: grpc.StatusCode, details: str | bytes) -> BrokenStreamError:
    words = details.decode(errors="replace") if isinstance(details, bytes) else details
    if code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
        return BrokenStreamError(grpc.StatusCode.UNAVAILABLE, words or "the stream has ended")
    return BrokenStreamError(code, words)
