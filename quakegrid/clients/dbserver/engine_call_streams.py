"""Calls to the dbserver over streams that stay open. Each stream has one call at a time.

So the thread that calls also reads the answer. A thread takes an idle stream, or opens one. There are as many
streams as threads that have called at the same time.
"""

from __future__ import annotations

import contextlib
import threading
import time

import grpc

from quakegrid.api.v1 import values_pb2
from quakegrid.clients.dbserver import private_grpc_streams
from quakegrid.clients.dbserver.private_grpc_streams import BrokenStreamError, MessageStream
from quakegrid.internal.v1 import engine_calls_pb2

METHOD = "/quakegrid.internal.v1.EngineCalls/CallStream"
# How often to look for calls that take too long.
LOOK_EVERY_S = 5.0


class EngineCallStreams:
    """Streams of one connection, usable from several threads."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        # Single operations of Python change it, so it needs no lock.
        self._idle: list[MessageStream] = []
        self._deadlines: dict[MessageStream, float] = {}
        self._is_closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="call-watch", daemon=True)
        self._start_lock = threading.Lock()

    def call(self, request: engine_calls_pb2.CallRequest, timeout: float) -> values_pb2.Value:
        """Send a request and wait for its result.

        Args:
            request: its request id belongs to this call only, so that it may be sent twice.
            timeout: seconds; if the call takes much longer, its stream is ended.
        Raises:
            BrokenStreamError: the call failed, or its stream broke, which is UNAVAILABLE, or
                DEADLINE_EXCEEDED when the answer took too long.
        """
        answer = self._ask(request.SerializeToString(), time.monotonic() + timeout)
        response = engine_calls_pb2.CallStreamResponse.FromString(answer)
        if response.HasField("error"):
            code = private_grpc_streams.STATUS_CODES[response.error.code]
            raise BrokenStreamError(code, response.error.reason)
        return response.result

    def close(self) -> None:
        """End the streams; calls that wait fail."""
        self._is_closed.set()
        for stream in [*self._deadlines, *self._idle]:
            stream.cancel()

    def _ask(self, message: bytes, deadline_s: float) -> bytes:
        try:
            stream = self._idle.pop()
        except IndexError:
            return self._exchange(self._open(), message, deadline_s)
        try:
            return self._exchange(stream, message, deadline_s)
        except BrokenStreamError:
            if self._is_closed.is_set() or time.monotonic() > deadline_s:
                raise
        # No thread reads an idle stream, so only now it shows that the server is gone, for all streams.
        # If the server has done the request already, it does not do it again, as the request has an id.
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().cancel()
        return self._exchange(self._open(), message, deadline_s)

    def _open(self) -> MessageStream:
        with self._start_lock:
            if not self._watcher.ident:
                self._watcher.start()
        return private_grpc_streams.open_stream(self._channel, METHOD)

    def _exchange(self, stream: MessageStream, message: bytes, deadline_s: float) -> bytes:
        self._deadlines[stream] = deadline_s
        try:
            answer = stream.exchange(message)
        except BrokenStreamError as exc:
            stream.cancel()
            if time.monotonic() < deadline_s:
                raise
            raise BrokenStreamError(grpc.StatusCode.DEADLINE_EXCEEDED, exc.details()) from exc
        except BaseException:
            stream.cancel()  # the next call must not get this call's answer, if a signal's handler raises
            raise
        finally:
            del self._deadlines[stream]
        self._idle.append(stream)
        return answer

    def _watch(self) -> None:
        """End streams on which an answer takes too long, since the reading thread waits without a limit."""
        while not self._is_closed.wait(LOOK_EVERY_S):
            now_s = time.monotonic()
            for stream, deadline_s in list(self._deadlines.items()):
                if deadline_s < now_s:
                    stream.cancel()
