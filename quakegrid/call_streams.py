"""Many calls over one stream to the dbserver, each answered by its request id.

No thread of its own reads: of those who wait for an answer one reads for all, so that a caller alone gets
its answer without a change of threads.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from quakegrid.api.v1 import engine_calls_pb2 as pb

# How often calls that take too long are looked for.
LOOK_EVERY_S = 5.0


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


class CallStream:
    """One stream, from its first call until it breaks or is closed; usable from several threads.

    Args:
        open_stream: the stub's method: requests in, responses out.
    """

    def __init__(self, open_stream: Callable[[Iterator[pb.CallRequest]], Any]) -> None:
        self._requests: queue.SimpleQueue[pb.CallRequest | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._deadlines: dict[str, float] = {}
        self._answers: dict[str, pb.CallStreamResponse] = {}
        self._is_read = False
        self._error: BrokenStreamError | None = None
        self._responses = open_stream(self._sent_requests())

    @property
    def is_broken(self) -> bool:
        """Whether it takes no more calls."""
        return self._error is not None or not self._responses.is_active()

    def call(self, request: pb.CallRequest, timeout_s: float) -> pb.Value:
        """Send a request and wait for its result.

        Args:
            request: its id is of this call only.
            timeout_s: if it takes much longer, the stream breaks.
        Raises:
            BrokenStreamError: the call failed, or the stream broke, which is UNAVAILABLE.
        """
        request_id = request.request_id
        with self._changed:
            self._deadlines[request_id] = time.monotonic() + timeout_s
        self._requests.put(request)
        try:
            response = self._wait(request_id)
        finally:
            with self._changed:
                del self._deadlines[request_id]
                self._answers.pop(request_id, None)
        if response.HasField("error"):
            raise BrokenStreamError(_CODES[response.error.code], response.error.reason)
        return response.result

    def close(self) -> None:
        """End the stream; calls that wait fail."""
        self._requests.put(None)
        self._responses.cancel()

    def _wait(self, request_id: str) -> pb.CallStreamResponse:
        """Read until the answer comes, or wait while another thread reads."""
        with self._changed:
            while (response := self._answers.get(request_id)) is None:
                if self._error:
                    raise self._error
                if self._is_read:
                    self._changed.wait()
                    continue
                self._is_read = True
                self._changed.release()
                try:
                    response, error = self._read()
                finally:
                    self._changed.acquire()
                    self._is_read = False
                    self._changed.notify_all()
                self._error = self._error or error
                if response is not None and response.request_id in self._deadlines:
                    self._answers[response.request_id] = response
        return response

    def _read(self) -> tuple[pb.CallStreamResponse | None, BrokenStreamError | None]:
        try:
            return next(self._responses), None
        except StopIteration:
            return None, BrokenStreamError(grpc.StatusCode.UNAVAILABLE, "the stream has ended")
        except grpc.RpcError as exc:
            code = exc.code()
            if code is grpc.StatusCode.CANCELLED:  # by `close` or for taking too long
                code = grpc.StatusCode.UNAVAILABLE
            return None, BrokenStreamError(code, exc.details() or "")

    def _sent_requests(self) -> Iterator[pb.CallRequest]:
        """Hand requests to the thread of gRPC that sends; it also looks whether the answers come."""
        while True:
            try:
                request = self._requests.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                with self._changed:
                    oldest_s = min(self._deadlines.values(), default=None)
                if oldest_s is not None and oldest_s < time.monotonic():
                    self._responses.cancel()
                    return
                continue
            if request is None:
                return
            yield request


class CallStreams:
    """The stream in use, opened when first needed and again after it broke."""

    def __init__(self, open_stream: Callable[[Iterator[pb.CallRequest]], Any]) -> None:
        self._open_stream = open_stream
        self._lock = threading.Lock()
        self._stream: CallStream | None = None

    def call(self, request: pb.CallRequest, timeout: float) -> pb.Value:
        """As `CallStream.call`."""
        with self._lock:
            if self._stream is None or self._stream.is_broken:
                self._stream = CallStream(self._open_stream)
            stream = self._stream
        return stream.call(request, timeout)

    def close(self) -> None:
        """End the stream."""
        with self._lock:
            if self._stream:
                self._stream.close()


_CODES = {code.value[0]: code for code in grpc.StatusCode}
