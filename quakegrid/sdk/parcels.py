"""A chunk of calls while it is packed, and when its outcome is here.

Pickles each call into the chunk, and opens the results. Sends nothing.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

from quakegrid import errors
from quakegrid.blobs.table import BLOB_BYTES, BlobTable, Digests, digest
from quakegrid.jobs import engine_values
from quakegrid.sdk import chunks, function_pickles, pickles
from quakegrid.sdk.chunking import MAX_BYTES, TARGET_S, Chunking
from quakegrid.sdk.chunks import Chunk
from quakegrid.sdk.futures import Keeper
from quakegrid.sdk.pickles import Buffer, Outbox
from quakegrid.sdk.unsent import Call, UnsentCalls
from quakegrid.session.lane_client import OPERATION_CHARACTERS


@dataclass(slots=True)
class Parcel:
    """A chunk being packed, or out.

    Args:
        blobs: of the session, which knows what the lane has already.
        refuse: called with a call that cannot be pickled, and why.
    """

    blobs: BlobTable
    refuse: Callable[[Call, errors.PayloadError], None]
    calls: list[Call] = field(default_factory=list)
    operations: list[str] = field(default_factory=list)
    chunk: Chunk = field(default_factory=Chunk)
    digests: Digests = field(default_factory=dict)
    cost_s: float = 0.0
    byte_count: int = 0
    _numbers: dict[object, int] = field(default_factory=dict)
    _outbox: Outbox = field(default_factory=Outbox)

    def fill(self, unsent: UnsentCalls, chunking: Chunking) -> None:
        """Take in calls that wait, as many as should travel together."""
        queue, again = unsent.queue, unsent.again
        limit = chunking.call_limit(len(queue) + len(again))
        unsent.take(limit)
        begun_count = 0
        cost_of, add, calls = chunking.cost_s, self.add, self.calls
        function, operation, cost_s = None, "", 0.0
        while len(calls) < limit and self.byte_count < MAX_BYTES:
            source = again or queue
            if not source:
                break
            call = source[0]
            if call.function is not function:
                function = call.function
                operation = operation_of(function)
                cost_s = cost_of(operation)
            if calls and self.cost_s + cost_s > TARGET_S:
                break
            source.popleft()
            if source is again:
                self.cost_s += cost_s
                add(call, operation)
            elif call.begin():
                begun_count += 1
                self.cost_s += cost_s
                add(call, operation)
        unsent.done(limit - begun_count)

    def add(self, call: Call, operation: str) -> None:
        """Pickle a call into the chunk, or refuse it."""
        chunk, outbox, place = self.chunk, self._outbox, len(self.calls)
        function, args, kwargs = call.function, call.args, call.kwargs
        mark = len(outbox.frames)
        self.calls.append(call)  # first: whatever happens now, the call's future ends with its parcel
        try:
            is_plain = type(function) is FunctionType and function.__closure__ is None
            number = self._number_of(function, operation, is_plain=is_plain)
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
            self.calls.pop()
            self.refuse(call, error)
            return
        if len(outbox.frames) > mark:
            chunk.buffer_counts[place] = len(outbox.frames) - mark
            self.byte_count += sum([self._added_bytes(frame) for frame in outbox.frames[mark:]])
        self.byte_count += len(data)
        chunk.operations.append(number)
        chunk.arguments.append(data)

    def frames(self) -> list[bytes | Buffer]:
        """What travels."""
        return [pickle.dumps(self.chunk, 5), *self._outbox.frames]

    def forget_arguments(self) -> None:
        """The chunk is sent: its arguments are kept by the session until the outcome is here."""
        self._outbox.frames.clear()
        self.digests.clear()
        self.chunk.arguments.clear()

    def _number_of(self, function: Any, operation: str, *, is_plain: bool) -> int:
        """The number of an operation in the chunk, entered there when it is new."""
        key = id(function) if is_plain else operation  # the calls keep the function alive
        number = self._numbers.get(key)
        if number is None:
            self.chunk.functions.append(function_pickles.dump(function) if is_plain else None)
            number = self._numbers[key] = len(self.operations)
            self.operations.append(operation)
        return number

    def _added_bytes(self, frame: Buffer) -> int:
        """What a frame adds: nothing if it is in the parcel already, or a blob that the lane has."""
        if frame.nbytes < BLOB_BYTES:
            return frame.nbytes
        known = id(frame.obj) in self.digests
        return 0 if self.blobs.is_known(digest(frame, self.digests)) or known else frame.nbytes


def operation_of(function: Any) -> str:
    """The kind of a call: what is called, without its arguments."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        name = str(getattr(function, "__qualname__", "") or type(function).__qualname__)
    except Exception:  # noqa: BLE001 - whatever an object's own methods raise
        name = "call"
    return engine_values.well_formed(name)[:OPERATION_CHARACTERS]


def opened(
    parcel: Parcel, results: chunks.Results, buffers: Iterator[Buffer], keeper: Keeper | None = None
) -> list[tuple[Call, Any, Exception | None]]:
    """The calls of a parcel that have results, each with result and exception, one of the two None.

    Args:
        parcel: as it was sent.
        results: of its first calls.
        buffers: of the results.
        keeper: gets the results, too.
    """
    failures = results.failures
    if keeper is not None:
        return [
            _kept(call, results, place, chunks.take(buffers, results.buffer_counts, place), keeper)
            for place, call in enumerate(parcel.calls[: len(results.values)])
        ]
    return [
        (call, *_open(results, place, chunks.take(buffers, results.buffer_counts, place)))
        if type(value) is bytes or place in failures
        else (call, value, None)
        for place, (call, value) in enumerate(zip(parcel.calls, results.values, strict=False))
    ]


def _open(
    results: chunks.Results, place: int, buffers: list[Buffer] | None
) -> tuple[Any, None] | tuple[None, Exception]:
    """Result and exception of a call, one of the two None."""
    try:
        return chunks.load_value(results, place, buffers), None
    except Exception as exc:  # noqa: BLE001 - the task's own, or what its result's methods raise
        return None, exc


def _kept(
    call: Call, results: chunks.Results, place: int, buffers: list[Buffer] | None, keeper: Keeper
) -> tuple[Call, Any, Exception | None]:
    value, exc = _open(results, place, buffers)
    if exc is None:
        keeper.keep(call, results.values[place], buffers or ())
    return call, value, exc
