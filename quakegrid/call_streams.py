"""Many calls over one stream to the dbserver, each answered by its request id.

No thread of its own reads: of those who wait for an answer one reads for all, so that a caller alone gets
its answer without a change of threads.
"""

from __future__ import annotations

import contextlib
import threading
import time

import grpc

from quakegrid import own_thread_streams
from quakegrid.api.v1 import engine_calls_pb2 as pb
from quakegrid.own_thread_streams import BrokenStreamError

METHOD = "/quakegrid.api.v1.EngineCalls/CallStream"
# How often calls that take too long are looked for.
LOOK_EVERY_S = 5.0


class CallStream:
    """One stream, from its first call until it breaks or is closed; usable from several threads."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._changed = threading.Condition()
        self._deadlines: dict[str, float] = {}
        self._answers: dict[str, pb.CallStreamResponse] = {}
        self._is_read = False
        self._error: BrokenStreamError | None = None
        self._stream = own_thread_streams.open_stream(channel, METHOD)
        self._has_ended = threading.Event()
        threading.Thread(target=self._watch, name="call-watch", daemon=True).start()

    @property
    def is_broken(self) -> bool:
        """Whether it takes no more calls."""
        return self._error is not None

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
        self._stream.send(request.SerializeToString())
        try:
            response = self._wait(request_id)
        finally:
            with self._changed:
                del self._deadlines[request_id]
                self._answers.pop(request_id, None)
        if response.HasField("error"):
            code = own_thread_streams.STATUS_CODES[response.error.code]
            raise BrokenStreamError(code, response.error.reason)
        return response.result

    def close(self) -> None:
        """End the stream; calls that wait fail."""
        self._stream.cancel()
        with self._changed:  # whoever reads sees the end; if nobody does, we do
            self._deadlines["close"] = 0.0
        with contextlib.suppress(BrokenStreamError):
            self._wait("close")

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
                    response = pb.CallStreamResponse.FromString(self._stream.read())
                except BrokenStreamError as exc:
                    self._end(exc)
                except BaseException:
                    # Raised by a signal's handler, perhaps just after something had come.
                    self._stream.cancel()
                    self._end(BrokenStreamError(grpc.StatusCode.UNAVAILABLE, "a call was interrupted"))
                    raise
                finally:
                    self._changed.acquire()
                    self._is_read = False
                    self._changed.notify_all()
                if response is not None and response.request_id in self._deadlines:
                    self._answers[response.request_id] = response
        return response

    def _end(self, error: BrokenStreamError) -> None:
        """Take no more calls; those that wait get the error."""
        self._error = error
        self._has_ended.set()

    def _watch(self) -> None:
        """End the stream when an answer takes too long: who reads waits without a limit."""
        while not self._has_ended.wait(LOOK_EVERY_S):
            with self._changed:
                oldest_s = min(self._deadlines.values(), default=None)
            if oldest_s is not None and oldest_s < time.monotonic():
                self._stream.cancel()


class CallStreams:
    """The stream in use, opened when first needed and again after it broke."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._stream: CallStream | None = None

    def call(self, request: pb.CallRequest, timeout: float) -> pb.Value:
        """As `CallStream.call`; if a stream that was there before has broken, on a new one."""
        stream, is_new = self._current()
        try:
            return stream.call(request, timeout)
        except BrokenStreamError:
            if is_new or not stream.is_broken:
                raise
        # Nobody reads an idle stream: that its server has gone shows only now. What the server may have
        # done already it does not do again, as the request has an id.
        return self._current()[0].call(request, timeout)

    def close(self) -> None:
        """End the stream."""
        with self._lock:
            if self._stream:
                self._stream.close()

    def _current(self) -> tuple[CallStream, bool]:
        """A stream that is not known to be broken, and whether it is new."""
        with self._lock:
            if self._stream and not self._stream.is_broken:
                return self._stream, False
            self._stream = CallStream(self._channel)
            return self._stream, True
