"""A chunk: calls that travel to a worker together, and their results on the way back.

Client and worker both use this module. Each call is pickled by itself, so that calls share no state and a
bad one spoils no other. Only functions without state are sent once for all calls of a chunk.
"""

from __future__ import annotations

import itertools
import pickle
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import GeneratorType
from typing import Any, Protocol

from quakegrid import errors
from quakegrid.sdk import pickles
from quakegrid.sdk.chunking import BUDGET_S
from quakegrid.sdk.pickles import Buffer, Outbox

# Types that are immutable and of one piece: they need no pickle of their own among the results.
_ATOMS = frozenset({type(None), bool, int, float, str})
_MAX_FUNCTIONS = 256
# Memory that ZeroMQ needs for a frame while it encrypts it; found by trying sizes around the limit.
_COPIES = 2

_functions: dict[bytes, Any] = {}


class Frame(Protocol):
    """A received frame, as of ZeroMQ."""

    @property
    def buffer(self) -> Buffer:
        """Its bytes, without a copy."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call has no result.

    Args:
        exception: pickled; None if it cannot be.
        description: the exception in one line.
        traceback: as the worker would print it.
    """

    exception: bytes | None
    description: str
    traceback: str


@dataclass(frozen=True, slots=True)
class Results:
    """The results of the first calls of a chunk; the others were not begun.

    Args:
        values: bytes are pickles, anything else is the result itself; None where a call failed.
        failures: by the call's place.
        spent_s: time of all calls, by operation number.
        buffer_counts: frames that belong to a result, by the call's place.
    """

    values: list[Any]
    failures: dict[int, Failure]
    spent_s: list[float]
    buffer_counts: dict[int, int]


@dataclass(slots=True)
class Chunk:
    """The payload of a lane's task: runs its calls in a worker.

    Args:
        functions: pickled, by operation number; None if each call brings its own.
        operations: operation number of each call.
        arguments: pickled `(args, kwargs)`, or `(function, args, kwargs)`; empty for no arguments.
        buffer_counts: frames that belong to a call, by its place.
    """

    functions: list[bytes | None] = field(default_factory=list)
    operations: list[int] = field(default_factory=list)
    arguments: list[bytes] = field(default_factory=list)
    buffer_counts: dict[int, int] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        return Chunk, (self.functions, self.operations, self.arguments, self.buffer_counts)

    def __call__(self, *frames: Frame) -> list[bytes | Buffer]:
        """Run the calls in order; returns the frames of `Results`."""
        buffers = iter([frame.buffer for frame in frames])
        outbox = Outbox()
        results = Results([], {}, [0.0] * len(self.functions), {})
        begin_s = start_s = time.perf_counter()
        for place, (number, arguments) in enumerate(zip(self.operations, self.arguments, strict=True)):
            mine = take(buffers, self.buffer_counts, place)
            mark = len(outbox.frames)
            try:
                value = _run(self.functions[number], arguments, mine)
                kind = type(value)
                results.values.append(value if kind in _ATOMS else _dump_result(value, outbox))
            except BaseException as exc:  # noqa: BLE001 - whatever a task raises is its own
                results.values.append(None)
                results.failures[place] = _describe(exc)
            if len(outbox.frames) > mark:
                results.buffer_counts[place] = len(outbox.frames) - mark
            now_s = time.perf_counter()
            results.spent_s[number] += now_s - start_s
            start_s = now_s
            if now_s - begin_s > BUDGET_S:
                break
        packed = (results.values, results.failures, results.spent_s, results.buffer_counts)
        return [pickle.dumps(packed, 5), *outbox.frames]


def run_batch(fn: Callable[..., Any], batch: Iterable[Iterable[Any]]) -> list[Any]:
    """Run calls that stay together, as one call."""
    return [_collect(fn(*args)) for args in batch]


def unpack(frames: Sequence[Frame]) -> tuple[Results, Iterator[Buffer]]:
    """The results in an outcome, and the frames of their buffers."""
    results = Results(*pickle.loads(frames[0].buffer))  # noqa: S301 - from our worker
    return results, iter([frame.buffer for frame in frames[1:]])


def load_value(results: Results, place: int, buffers: list[Buffer] | None) -> Any:
    """The result of a call, from the buffers that belong to it.

    Raises:
        Exception: the task's own, with the worker's traceback as its cause, or ours when it cannot be
            unpickled here.
    """
    failure = results.failures.get(place)
    if failure is not None:
        raise revive(failure)
    value = results.values[place]
    if type(value) is not bytes:
        return value
    try:
        return pickles.load(value, buffers)
    except Exception as exc:
        raise errors.PayloadError(f"the task's result cannot be unpickled here: {_in_line(exc)}") from exc


def take(buffers: Iterator[Buffer], counts: dict[int, int], place: int) -> list[Buffer] | None:
    """The buffers that belong to a call, or to its result; go through the places in order."""
    return list(itertools.islice(buffers, counts[place])) if counts and place in counts else None


def _run(function_data: bytes | None, arguments: bytes, buffers: list[Buffer] | None) -> Any:
    try:
        if function_data is None:
            function, args, kwargs = pickles.load(arguments, buffers)
        else:
            function = _functions.get(function_data) or _load_function(function_data)
            args, kwargs = pickles.load(arguments, buffers) if arguments else ((), {})
    except BaseException as exc:
        message = f"the function or its arguments cannot be unpickled on the worker: {_in_line(exc)}"
        raise errors.PayloadError(message) from exc
    return function(*args, **kwargs)


def _load_function(data: bytes) -> Any:
    if len(_functions) >= _MAX_FUNCTIONS:
        _functions.clear()
    function = _functions[data] = pickles.load(data)
    return function


def _collect(value: Any) -> Any:
    """A generator run to its end, as the list of what it yielded: results are delivered whole."""
    return list(value) if type(value) is GeneratorType else value


def _dump_result(value: Any, outbox: Outbox) -> bytes:
    value = _collect(value)
    mark = len(outbox.frames)
    try:
        data = pickles.dump(value, outbox, has_main=False)
        if len(data) >= pickles.LARGE_BYTES or len(outbox.frames) > mark:
            _check_room(len(data) + sum(frame.nbytes for frame in outbox.frames))
    except Exception as exc:
        del outbox.frames[mark:]
        message = f"the task's result, a {type(value).__qualname__}, cannot be pickled: {_in_line(exc)}"
        raise errors.PayloadError(message) from exc
    return data


def _check_room(byte_count: int) -> None:
    """Find out now whether a result can be sent: ZeroMQ aborts the process when it lacks memory.

    Raises:
        MemoryError: it cannot.
    """
    try:
        bytes(_COPIES * byte_count)  # reserved, never touched
    except MemoryError:
        raise MemoryError(f"no room to send its {byte_count} bytes") from None


def _describe(exc: BaseException) -> Failure:
    text = "".join(traceback.format_exception(type(exc), exc, _task_frames(exc)))
    description = _in_line(exc)
    if not isinstance(exc, Exception):  # raised in the client it would end more than the task
        does = f"called sys.exit({exc.code!r})" if isinstance(exc, SystemExit) else f"raised {description}"
        exc = errors.TaskError(f"the task {does}")
    try:
        data = pickles.dump(exc, Outbox(), has_main=False)
    except Exception:  # noqa: BLE001 - then its description must do
        return Failure(None, description, text)
    return Failure(data, description, text)


def _task_frames(exc: BaseException) -> Any:
    """The traceback without our own frames in front."""
    frames = exc.__traceback__
    while frames is not None and frames.tb_frame.f_globals is globals() and frames.tb_next is not None:
        frames = frames.tb_next
    return frames


def _in_line(exc: BaseException) -> str:
    try:
        text = " ".join(str(exc).split())
    except Exception:  # noqa: BLE001 - its __str__ is broken
        text = ""
    return f"{type(exc).__qualname__}: {text}" if text else type(exc).__qualname__


class RemoteTraceback(Exception):  # noqa: N818 - it is shown as a cause, never caught
    """The traceback of a task's exception, as text; the exception's `__cause__`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def revive(failure: Failure) -> Exception:
    """The exception of a failed call, with the worker's traceback as its cause."""
    exc: object = None
    reason = "cannot be pickled on the worker"
    if failure.exception is not None:
        try:
            exc = pickles.load(failure.exception)
        except BaseException as problem:  # noqa: BLE001 - its own __init__ or __reduce__
            reason = f"cannot be unpickled here ({_in_line(problem)})"
    if not isinstance(exc, Exception):
        exc = errors.PayloadError(f"the task raised an exception that {reason}: {failure.description}")
    exc.__cause__ = RemoteTraceback(failure.traceback)
    return exc
