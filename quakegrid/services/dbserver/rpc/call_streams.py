"""Engine calls, served in the event loop: on a stream, a call is answered before the next is read.

Quick reads are answered in the loop itself, writes go straight to the writer, and calls that may take longer
go through a thread. Nothing here waits in the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import grpc

from quakegrid.errors import PeerUnreachableError
from quakegrid.internal.v1 import engine_calls_pb2
from quakegrid.services.dbserver.rpc import status_codes
from quakegrid.services.dbserver.store.idempotence import Answer
from quakegrid.services.dbserver.store.writer import Tell
from quakegrid.transport.request_reads import RequestReads

# Calls of all streams together. With those of all other callers they are fewer than the places in the
# writer's queue, so that the loop never waits for the queue.
ALL_CALLS = 128

# Tells whether the caller still waits; for any thread.
IsWanted = Callable[[], bool]
# Starts a call: its serialized `CallResponse` if it is quick; None if a thread will tell the answer.
Begin = Callable[[engine_calls_pb2.CallRequest, Tell, IsWanted], bytes | None]
_Outcome = Answer | Exception
# The longest that a client may take to receive an answer; it keeps others from theirs.
SEND_TIMEOUT_S = 20.0


class CallStreams:
    """All streams, and single calls. Made in the event loop that serves them.

    Args:
        begin: starts a call without waiting for anything.
    """

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._slots = asyncio.Semaphore(ALL_CALLS)
        self._loop = asyncio.get_running_loop()
        self._mailbox = _Mailbox(self._loop, self._slots)
        # The tasks of streams that wait for their client's next call.
        self._idle: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def serve(self, context: Any) -> None:
        """Serve one stream to its end."""
        requests: RequestReads[engine_calls_pb2.CallRequest] = RequestReads(context.read)
        calls = requests.start(self._serve_calls(requests, context))
        try:
            await asyncio.wait([calls])
        finally:
            requests.end()
        if self._is_closed:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the dbserver is stopping")
        calls.result()

    def close(self) -> None:
        """Accept no more calls; those that were accepted are still answered."""
        self._is_closed = True
        for calls in self._idle:
            calls.cancel()

    async def _serve_calls(self, requests: RequestReads[engine_calls_pb2.CallRequest], context: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not self._is_closed:
            self._idle.add(task)
            try:
                request = await requests.next()
            finally:
                self._idle.discard(task)
            if request is grpc.aio.EOF:  # type: ignore[attr-defined]
                return
            await self._answer_one(request, context)
            del request

    async def _answer_one(self, request: engine_calls_pb2.CallRequest, context: Any) -> None:
        """Answer a call; nothing of it stays in the memory while its client makes up its mind."""
        outcome = await self.answer(request)
        place = outcome.place if isinstance(outcome, Answer) else None
        message = _encode(request.request_id, outcome)
        del outcome  # it may be as large as the message
        try:
            await asyncio.wait_for(context.write(message), SEND_TIMEOUT_S)
        except TimeoutError:
            raise PeerUnreachableError(
                f"the client has not received its answer of {len(message) >> 20} MB in {SEND_TIMEOUT_S:g} s"
            ) from None
        finally:
            if place is not None:
                place.give_back()

    async def answer(self, request: engine_calls_pb2.CallRequest) -> Answer | Exception:
        """An answer with a serialized `CallResponse`, or why there is none.

        The caller gives the place of the answer back when it is sent (`give_back`).
        """
        await self._slots.acquire()
        future: asyncio.Future[_Outcome] = self._loop.create_future()

        def tell(answer: Answer | None, error: Exception | None) -> None:
            outcome: _Outcome
            if error is not None:  # first: an answer beside an error belongs to a try that was undone
                outcome = error
            else:
                assert answer is not None
                outcome = answer
            self._mailbox.put((future, outcome))

        try:
            response = self._begin(request, tell, lambda: not future.done())
        except Exception as exc:  # noqa: BLE001  told to the caller
            self._slots.release()
            return exc
        if response is None:
            return await self._wait(future)
        self._slots.release()
        return Answer(response, is_repeated=False)

    async def _wait(self, future: asyncio.Future[_Outcome]) -> _Outcome:
        """Wait for an answer; its slot is free when it is told, also if the client leaves before."""
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                give_back(future.result())
            raise


def give_back(outcome: _Outcome) -> None:
    """Give the place of an answer back."""
    if isinstance(outcome, Answer) and outcome.place is not None:
        outcome.place.give_back()


def _encode(request_id: str, outcome: _Outcome) -> bytes:
    """A `CallStreamResponse`: a `CallResponse` has its result in the same field."""
    if isinstance(outcome, Answer):
        return outcome.result + engine_calls_pb2.CallStreamResponse(request_id=request_id).SerializeToString()
    code, reason = status_codes.judge(outcome)
    error = engine_calls_pb2.CallError(code=code.value[0], reason=reason)
    return engine_calls_pb2.CallStreamResponse(request_id=request_id, error=error).SerializeToString()


class _Mailbox:
    """Settles futures of the event loop for threads; all those of one commit in one turn of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, slots: asyncio.Semaphore) -> None:
        self._loop = loop
        self._slots = slots
        self._letters: deque[tuple[asyncio.Future[_Outcome], _Outcome]] = deque()
        self._is_called = False

    def put(self, letter: tuple[asyncio.Future[_Outcome], _Outcome]) -> None:
        """Settle a future in the loop; for any thread."""
        self._letters.append(letter)
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._is_called = False  # first: letters that come from now on schedule a turn of their own
        while self._letters:
            future, outcome = self._letters.popleft()
            self._slots.release()
            if future.done():  # the client has left
                give_back(outcome)
            else:
                future.set_result(outcome)
