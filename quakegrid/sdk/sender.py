"""The thread between an executor and its lane: packs calls into chunks, hands results to futures.

One thread around one poller. A chunk leaves when there is room for it, however small it is, so that
nothing ever waits for a timer; while all workers are busy, calls gather and chunks grow.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import heapq
import itertools
import logging
import math
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, TypeVar

from quakegrid import errors
from quakegrid.blobs.table import BLOB_BYTES, Digests, digest
from quakegrid.jobs import engine_values
from quakegrid.sdk import chunks, function_pickles, pickles
from quakegrid.sdk.chunking import MAX_BYTES, TARGET_S, Chunking
from quakegrid.sdk.chunks import Chunk
from quakegrid.sdk.futures import CallFuture, Shared, settle
from quakegrid.sdk.pickles import Buffer, Outbox
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask
from quakegrid.session.session import OPERATION_CHARACTERS, Session

log = logging.getLogger("quakegrid.sdk")
OnProgress = Callable[[int, int], object]
Call = CallFuture[Any]
T = TypeVar("T")


class BrokenClusterError(errors.QuakeGridError, BrokenExecutor):
    """The executor lost its session: the broker ended it or is gone; nothing more can run."""


@dataclass(slots=True)
class _Parcel:
    """A chunk being packed, or out."""

    calls: list[Call] = field(default_factory=list)
    numbers: dict[object, int] = field(default_factory=dict)
    operations: list[str] = field(default_factory=list)
    chunk: Chunk = field(default_factory=Chunk)
    outbox: Outbox = field(default_factory=Outbox)
    digests: Digests = field(default_factory=dict)
    cost_s: float = 0.0
    byte_count: int = 0

    def number_of(self, function: Any, operation: str, *, is_plain: bool) -> int:
        """The number of an operation in the chunk, entered there when it is new."""
        key = id(function) if is_plain else operation  # the calls keep the function alive
        number = self.numbers.get(key)
        if number is None:
            self.chunk.functions.append(function_pickles.dump(function) if is_plain else None)
            number = self.numbers[key] = len(self.operations)
            self.operations.append(operation)
        return number


class Sender:
    """Owns the session of an executor; starts its thread at once.

    Args:
        session: admitted.
        worker_count: how many workers it will have.
        on_progress: called in this thread with the counts of done and submitted calls.
    """

    def __init__(self, session: Session, worker_count: int, on_progress: OnProgress | None) -> None:
        self._session, self._on_progress = session, on_progress
        self._chunking = Chunking(worker_count)
        self.shared = Shared()
        # Appended to by any thread, emptied by ours; both are atomic.
        self.queue: collections.deque[Call] = collections.deque()
        self.weighted: collections.deque[tuple[float, Call]] = collections.deque()
        # For our thread only: calls that were given back, sent one by one; weighted ones, heaviest first.
        self._again: collections.deque[Call] = collections.deque()
        self._suspects: collections.deque[Call] = collections.deque()
        self._heap: list[tuple[float, int, Call]] = []
        self._heap_numbers = itertools.count()
        self._out: dict[int, _Parcel] = {}
        self._packing = _Parcel()
        self._done_count = self._told_count = 0
        self.is_idle = False
        self.is_stopping = False
        self.cancel_queued = False
        self.is_terminated = False
        self.failure: BrokenClusterError | None = None
        self.is_ended = False
        self.thread = threading.Thread(target=self._run, name="quakegrid-executor", daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Tell the thread that there is something to do; for any thread."""
        self.is_idle = False
        self._session.wake()

    def stop(self, *, cancel_queued: bool = False) -> None:
        """Let the thread end when everything is done; `cancel_queued` drops calls that were not sent."""
        self.cancel_queued = self.cancel_queued or cancel_queued
        self.is_stopping = True
        self._session.wake()

    def terminate(self) -> None:
        """Let the thread end now, and with it the workers and their calls; for any thread."""
        self.is_terminated = True
        self._session.wake()

    def disown(self) -> None:
        """Refuse calls: this process was forked from the one that has the thread, and the calls of before."""
        self.failure = BrokenClusterError("this process was forked from the one that has the executor")
        self.is_ended = True

    def fail_leftovers(self) -> None:
        """End the futures of calls that came too late; for any thread, after the end."""
        failure = self.failure or RuntimeError("cannot schedule new futures after shutdown")
        self._fail([call for call in self._take_unsent() if call.begin()], failure)

    # --- the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except errors.QuakeGridError as exc:
            self.failure = BrokenClusterError(f"the executor's session ended: {exc}")
        except BaseException as exc:
            self.failure = BrokenClusterError(f"the executor's thread failed: {exc!r}")
            log.exception("sender_failed")
        finally:
            self._end()

    def _turn(self) -> bool:
        """Receive, send, wait; False at the end."""
        if self.is_terminated:
            self.failure = BrokenClusterError("the executor's workers were terminated")
            return False
        if self._session.abort_reason:  # whatever the program makes of the interrupt
            self.failure = BrokenClusterError(f"the executor's session ended: {self._session.abort_reason}")
            return False
        while (outcome := self._session.receive_ready()) is not None:
            self._on_outcome(outcome)
        if self.cancel_queued:
            self._cancel_queued()
        self._send_all()
        self._tell_progress()
        if not self._out and not self._has_work():
            if self.is_stopping:
                return False
        elif len(self._out) >= self._chunking.window:
            self._session.wait()
            return True
        self.is_idle = True
        if not self.queue and not self.weighted:  # else it came before we were idle, and nobody wakes us
            self._session.wait()
        self.is_idle = False
        return True

    def _has_work(self) -> bool:
        return bool(self.queue or self.weighted or self._heap or self._again or self._suspects)

    def _send_all(self) -> None:
        while self.weighted:
            weight, call = self.weighted.popleft()
            heapq.heappush(self._heap, (-weight, next(self._heap_numbers), call))
        window = self._chunking.window
        while len(self._out) < window:
            if self._heap:
                weight, _, call = heapq.heappop(self._heap)
                if call.begin():
                    self._send_single(call, -weight)
            elif self._suspects:
                self._send_single(self._suspects.popleft())
            elif self._again or self.queue:
                self._send(self._pack())
            else:
                return

    def _send_single(self, call: Call, weight: float = 1.0) -> None:
        parcel = self._packing = _Parcel()
        self._add(parcel, call, _operation(call.function))
        self._send(parcel, weight, may_wait=False)

    def _pack(self) -> _Parcel:
        """The next chunk; empty when all its calls were cancelled or could not be pickled."""
        parcel = self._packing = _Parcel()
        limit = self._chunking.call_limit(len(self.queue) + len(self._again))
        cost_of, add = self._chunking.cost_s, self._add
        function, operation, cost_s = None, "", 0.0
        while len(parcel.calls) < limit and parcel.byte_count < MAX_BYTES:
            source = self._again or self.queue
            if not source:
                break
            call = source[0]
            if call.function is not function:
                function = call.function
                operation = _operation(function)
                cost_s = cost_of(operation)
            if parcel.calls and parcel.cost_s + cost_s > TARGET_S:
                break
            source.popleft()
            if source is self._again or call.begin():
                parcel.cost_s += cost_s
                add(parcel, call, operation)
        return parcel

    def _add(self, parcel: _Parcel, call: Call, operation: str) -> None:
        """Pickle a call into a parcel; one that cannot be pickled gets its error at once."""
        chunk, outbox, place = parcel.chunk, parcel.outbox, len(parcel.calls)
        function, args, kwargs = call.function, call.args, call.kwargs
        mark = len(outbox.frames)
        parcel.calls.append(call)  # first: whatever happens now, the call's future ends with its parcel
        try:
            is_plain = type(function) is FunctionType and function.__closure__ is None
            number = parcel.number_of(function, operation, is_plain=is_plain)
            if not is_plain:
                data = pickles.dump((function, args, kwargs or {}), outbox, has_main=True)
            elif args or kwargs:
                data = pickles.dump((args, kwargs or {}), outbox, has_main=True)
            else:
                data = b""
        except BaseException as exc:  # noqa: BLE001 - whatever the arguments' own methods raise
            message = f"{operation} or its arguments cannot be pickled: {type(exc).__qualname__}: {exc}"
            error = errors.PayloadError(message)
            error.__cause__ = exc
            del parcel.calls[place]
            self._done_count += 1
            self._fail([call], error)
            return
        if len(outbox.frames) > mark:
            chunk.buffer_counts[place] = len(outbox.frames) - mark
            parcel.byte_count += sum([self._added_bytes(parcel, frame) for frame in outbox.frames[mark:]])
        parcel.byte_count += len(data)
        chunk.operations.append(number)
        chunk.arguments.append(data)

    def _added_bytes(self, parcel: _Parcel, frame: Buffer) -> int:
        """What a frame adds to the parcel: nothing if it is there already, or a blob of the lane."""
        if frame.nbytes < BLOB_BYTES:
            return frame.nbytes
        known = id(frame.obj) in parcel.digests
        return 0 if self._session.blobs.is_known(digest(frame, parcel.digests)) or known else frame.nbytes

    def _send(self, parcel: _Parcel, weight: float = 1.0, *, may_wait: bool = True) -> None:
        if not parcel.calls:
            return
        names = parcel.operations
        task = LaneTask(
            operation=names[0],
            weight=weight,
            expected_s=parcel.cost_s if may_wait and all(map(self._chunking.is_known, names)) else math.inf,
            max_attempts=1 if len(parcel.calls) > 1 else 0,
        )
        head = pickle.dumps(parcel.chunk, 5)
        task_id = self._session.submit([head, *parcel.outbox.frames], task, parcel.digests)
        parcel.outbox.frames.clear()
        parcel.digests.clear()
        parcel.chunk.arguments.clear()
        self._out[task_id] = parcel
        self._packing = _Parcel()

    def _on_outcome(self, outcome: LaneOutcome) -> None:
        parcel = self._out[outcome.task_id]
        if outcome.error:
            self._on_trouble(parcel, outcome)
            del self._out[outcome.task_id]
            return
        self._chunking.see_worker(outcome.worker_id)
        results, buffers = chunks.unpack(outcome.frames)
        failures = results.failures
        count = len(results.values)
        self._learn(parcel, results.spent_s, count)
        settled = [
            (call, *_open(results, place, buffers))
            if type(value) is bytes or place in failures
            else (call, value, None)
            for place, (call, value) in enumerate(zip(parcel.calls, results.values, strict=False))
        ]
        self._done_count += count
        settle(self.shared, settled)
        if count < len(parcel.calls):
            self._again.extendleft(reversed(parcel.calls[count:]))
        del self._out[outcome.task_id]  # last: whatever happened until now, its futures end with the session

    def _learn(self, parcel: _Parcel, spent_s: Sequence[float], count: int) -> None:
        if len(spent_s) == 1:
            self._chunking.learn(parcel.operations[0], spent_s[0], count)
            return
        for number, calls in collections.Counter(parcel.chunk.operations[:count]).items():
            self._chunking.learn(parcel.operations[number], spent_s[number], calls)

    def _on_trouble(self, parcel: _Parcel, outcome: LaneOutcome) -> None:
        """A chunk that ended its worker, or could not run: its calls are tried one by one."""
        if len(parcel.calls) > 1:
            self._suspects.extend(parcel.calls)
            return
        self._done_count += 1
        error = errors.TaskKilledError if outcome.reasons else errors.TaskError
        self._fail(parcel.calls, error(outcome.error))

    def _fail(self, calls: Iterable[Call], exception: Exception) -> None:
        settle(self.shared, [(call, None, exception) for call in calls])

    def _tell_progress(self) -> None:
        if self._on_progress is None or self._told_count == self._done_count:
            return
        self._told_count = self._done_count
        waiting: tuple[Sized, ...] = (self.queue, self.weighted, self._again, self._suspects, self._heap)
        out_count = sum(len(parcel.calls) for parcel in self._out.values())
        total_count = self._done_count + sum(len(calls) for calls in waiting) + out_count
        try:
            self._on_progress(self._done_count, total_count)
        except Exception:  # as futures treat the callbacks of theirs
            log.exception("progress_callback_failed")

    # --- the end

    def _cancel_queued(self) -> None:
        for call in self._take_unsent():
            call.drop()

    def _take_unsent(self) -> Iterator[Call]:
        """Take out all calls whose futures have not begun; others may do so at the same time."""
        yield from _taken(self.queue.popleft)
        yield from (call for _, call in _taken(self.weighted.popleft))
        yield from (call for *_, call in _taken(self._heap.pop))

    def _end(self) -> None:
        parcels = [*self._out.values(), self._packing]
        begun = [*self._again, *self._suspects, *(call for parcel in parcels for call in parcel.calls)]
        self._again.clear()
        self._suspects.clear()
        self._out.clear()
        # Before the queues are emptied for the last time: who submits later sees it, and empties them again.
        self.is_ended = True
        try:
            failure = self.failure or BrokenClusterError("the executor has ended")
            self._fail([call for call in begun if not call.done()], failure)
            self.fail_leftovers()
        finally:
            self._session.close()


def _open(
    results: chunks.Results, place: int, buffers: Iterator[Buffer]
) -> tuple[Any, None] | tuple[None, Exception]:
    """Result and exception of a call, one of the two None."""
    try:
        return chunks.load_value(results, place, buffers), None
    except Exception as exc:  # noqa: BLE001 - the task's own, or what its result's methods raise
        return None, exc


def _taken(pop: Callable[[], T]) -> Iterator[T]:
    """What can be taken out; other threads may take, too."""
    with contextlib.suppress(IndexError):
        while True:
            yield pop()


def _operation(function: Any) -> str:
    """The kind of a call: what is called, without its arguments."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        name = str(getattr(function, "__qualname__", "") or type(function).__qualname__)
    except Exception:  # noqa: BLE001 - whatever an object's own methods raise
        name = "call"
    return engine_values.well_formed(name)[:OPERATION_CHARACTERS]
