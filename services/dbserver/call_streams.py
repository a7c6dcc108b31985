"""Streams of engine calls, served in the event loop: many calls on the way, each answered when it is done.

Quick reads are answered in the loop itself, writes go straight to the writer, and only what may take its
time goes through a thread. Nothing here waits in the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from quakegrid.api.v1 import engine_calls_pb2 as pb
from services.dbserver import faults
from services.dbserver.requests import Answer
from services.dbserver.writer import Tell

# Of one stream; a client that sends more is held back.
STREAM_CALLS = 64
# Of all streams together: with all other callers still fewer than the writer's queue takes, so that the
# loop never waits for it.
ALL_CALLS = 128

# Starts a call: its serialized `CallResponse` if it is quick; None if a thread will tell the answer.
Begin = Callable[[pb.CallRequest, Tell], bytes | None]


class CallStreams:
    """All streams. Made in the event loop that serves them.

    Args:
        begin: starts a call without waiting for anything.
    """

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.slots = asyncio.Semaphore(ALL_CALLS)
        self.mailbox = _Mailbox(asyncio.get_running_loop())
        self._acceptors: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def serve(self, context: Any) -> None:
        """Serve one stream to its end."""
        stream = _Stream(self, context)
        acceptor = asyncio.create_task(stream.accept())
        sender = asyncio.create_task(stream.send())
        self._acceptors.add(acceptor)
        try:
            if not self._is_closed:
                await asyncio.wait([acceptor])
            await stream.drain()
            if self._is_closed:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the dbserver is stopping")
        finally:
            stream.has_ended = True
            acceptor.cancel()
            sender.cancel()
            self._acceptors.discard(acceptor)

    def close(self) -> None:
        """Take no more calls; those that were taken are still answered."""
        self._is_closed = True
        for acceptor in self._acceptors:
            acceptor.cancel()


class _Stream:
    """One client's calls: `accept` starts them, and sends the answers itself that are there at once."""

    def __init__(self, streams: CallStreams, context: Any) -> None:
        self._streams = streams
        self._context = context
        self._places = asyncio.Semaphore(STREAM_CALLS)
        self._answers: deque[bytes] = deque()
        self._is_sending = False
        self._have_come = asyncio.get_running_loop().create_future()
        self.has_ended = False

    async def accept(self) -> None:
        """Start the client's calls until it sends no more."""
        while (request := await self._context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            await self._places.acquire()
            await self._streams.slots.acquire()
            self._begin(request)
            if self._answers and not self._is_sending:
                await self._send_all()

    async def send(self) -> None:
        """Send the answers that come later, until it is cancelled."""
        while True:
            await self._have_come
            self._have_come = asyncio.get_running_loop().create_future()
            if not self._is_sending:
                await self._send_all()

    async def drain(self) -> None:
        """Wait until every call that was taken is answered."""
        for _ in range(STREAM_CALLS):
            await self._places.acquire()

    def take(self, request_id: str, outcome: bytes | Exception) -> None:
        """Take an answer that came later."""
        self._answer(request_id, outcome)
        if not self._is_sending and not self._have_come.done():
            self._have_come.set_result(None)

    def _begin(self, request: pb.CallRequest) -> None:
        request_id = request.request_id

        def tell(answer: Answer | None, error: Exception | None) -> None:
            outcome = answer.result if answer else error
            assert outcome is not None
            self._streams.mailbox.put((self, request_id, outcome))

        try:
            response = self._streams.begin(request, tell)
        except Exception as exc:  # noqa: BLE001  told to the caller
            self._answer(request_id, exc)
            return
        if response is not None:
            self._answer(request_id, response)

    def _answer(self, request_id: str, outcome: bytes | Exception) -> None:
        self._streams.slots.release()
        if isinstance(outcome, bytes):
            self._answers.append(outcome + pb.CallStreamResponse(request_id=request_id).SerializeToString())
            return
        code, reason = faults.judge(outcome)
        error = pb.CallError(code=code.value[0], reason=reason)
        answer = pb.CallStreamResponse(request_id=request_id, error=error)
        self._answers.append(answer.SerializeToString())

    async def _send_all(self) -> None:
        """Send what there is; by one task at a time."""
        self._is_sending = True
        try:
            while self._answers and not self.has_ended:
                await self._context.write(self._answers.popleft())
                self._places.release()
        except Exception:  # noqa: BLE001  gRPC has several for a client that has left, which ends `serve`
            self.has_ended = True
        finally:
            self._is_sending = False


class _Mailbox:
    """Brings what threads have for the event loop, the letters of one commit in one go."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._letters: deque[tuple[_Stream, str, bytes | Exception]] = deque()
        self._is_called = False

    def put(self, letter: tuple[_Stream, str, bytes | Exception]) -> None:
        """Have a stream take an answer in the loop; for any thread."""
        self._letters.append(letter)
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_called = False  # first: what comes from now on makes a call of its own
        while self._letters:
            stream, request_id, outcome = self._letters.popleft()
            stream.take(request_id, outcome)
