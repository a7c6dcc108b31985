"""Futures of an executor, made for millions: one object each, and one lock for all of them.

The standard library's own `Future` makes ten objects, among them a lock, and settling it takes that
lock; here the results of a chunk are settled together. `wait`, `as_completed` and `asyncio.wrap_future`
use the attributes that the base class has, so these keep their names and meaning.
"""

from __future__ import annotations

import collections
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
# An argument of so many bytes is looked at by itself: as many as travel beside a pickle.
LARGE_BYTES = 64 << 10
# Types whose objects have no size that can be seen. `submit` looks here for each argument.
SMALL_TYPES: set[type] = {int, float, bool, complex, type(None)}
_MANY_TYPES = 1_000  # a program may make types without end

log = logging.getLogger("quakegrid.sdk")

# The base class's states, which are not public.
_PENDING, _RUNNING, _CANCELLED, _FINISHED = "PENDING", "RUNNING", "CANCELLED", "FINISHED"


class Keeper(Protocol):
    """Keeps results beyond the program."""

    def submit(self, call: CallFuture[Any], send: Callable[[CallFuture[Any]], None]) -> bool:
        """Answer a call, or have it sent where that is needed; returns whether it was answered."""

    def keep(self, call: CallFuture[Any], data: Any, buffers: Sequence[memoryview]) -> None:
        """Keep the result of a call: what `chunks.Results` has of it, and the buffers that belong to it."""

    def close(self) -> None:
        """No more results come."""


class Shared(threading.Condition):
    """The lock of all futures of an executor, and the condition of those that are done.

    Args:
        wake: wakes the executor's thread.
        keeper: gets the results of calls; None if nobody wants them.
    """

    def __init__(self, wake: Callable[[], None], keeper: Keeper | None = None) -> None:
        self.lock = threading.RLock()
        super().__init__(self.lock)
        self._wake, self.keeper = wake, keeper
        self.large = LargeArguments()
        self.waiter_count = 0  # threads that wait for room to submit
        self.cancelled_count = 0  # calls that still take up room in the queue, about

    def note_cancelled(self, count: int) -> None:
        """So many calls were cancelled. If a thread waits for room it gets theirs."""
        self.cancelled_count += count
        if self.cancelled_count and self.waiter_count:
            self._wake()


class LargeArguments:
    """Large arguments of calls without a result. One that calls share counts once. For who has the lock."""

    def __init__(self) -> None:
        self.byte_count = 0
        self._found: dict[int, list[int]] = {}  # by an argument's id: its bytes, and how many calls have it

    def add(self, arguments: Iterable[Any]) -> tuple[int, ...]:
        """Count the arguments of a call; returns what to `drop` when it lets go of them."""
        ids = []
        for argument in arguments:
            byte_count = visible_bytes(argument)
            if byte_count >= LARGE_BYTES:
                ids.append(id(argument))
                found = self._found.setdefault(id(argument), [byte_count, 0])
                found[1] += 1
                if found[1] == 1:
                    self.byte_count += byte_count
        return tuple(ids)

    def drop(self, ids: Iterable[int]) -> None:
        """A call let go of its arguments."""
        for number in ids:
            found = self._found[number]
            found[1] -= 1
            if not found[1]:
                del self._found[number]
                self.byte_count -= found[0]


def visible_bytes(argument: Any) -> int:
    """The size of a string, of bytes, or of an array; 0 for everything else, whatever is in it."""
    kind = type(argument)
    if kind in SMALL_TYPES:
        return 0
    if kind is str or kind is bytes or kind is bytearray:
        return len(argument)
    if hasattr(kind, "nbytes"):
        try:
            byte_count = argument.nbytes
        except Exception:  # noqa: BLE001 - whatever an object's own methods raise
            byte_count = None
        return byte_count if type(byte_count) is int else 0
    if len(SMALL_TYPES) >= _MANY_TYPES:
        SMALL_TYPES.clear()
    SMALL_TYPES.add(kind)
    return 0


class CallFuture(Future[T]):
    """The future of one call, and the call.

    Args:
        shared: with all futures of the executor.
        function: what to call, with `args` and `kwargs`.
    """

    _made_condition: threading.Condition | None = None
    _made_waiters: list[Any] | None = None
    _made_callbacks: list[Callable[..., Any]] | None = None
    large: tuple[int, ...] = ()  # of `LargeArguments`
    key: bytes = b""  # of an executor with a journal

    def __init__(  # the base class's own would make the ten objects
        self,
        shared: Shared,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> None:
        self._shared = shared
        self._state = _PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self.function: Callable[..., T] | None = function
        self.args, self.kwargs = args, kwargs

    # What the base class's methods and `wait` use, made when it is wanted, with the lock held.

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        if self._state == _FINISHED:  # nobody will wait
            return self._shared
        with self._shared.lock:
            if self._made_condition is None:
                self._made_condition = threading.Condition(self._shared.lock)
            return self._made_condition

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        if self._made_waiters is None:
            self._made_waiters = []
        return self._made_waiters

    @property
    def _done_callbacks(self) -> list[Callable[..., Any]]:
        if self._made_callbacks is None:
            self._made_callbacks = []
        return self._made_callbacks

    def result(self, timeout: float | None = None) -> T:
        """The call's result; raises its exception, `CancelledError` or `TimeoutError`."""
        if self._state == _FINISHED and self._exception is None:
            value: T = self._result
            return value
        return super().result(timeout)

    @property
    def is_cancelled(self) -> bool:
        """Whether the call was cancelled and nobody was told yet."""
        return self._state == _CANCELLED

    def cancel(self) -> bool:
        """Cancel the call if it was not sent."""
        is_cancelled = super().cancel()
        if is_cancelled:
            self._shared.note_cancelled(1)
        return is_cancelled

    def begin(self) -> bool:
        """Mark the call as sent, after which it cannot be cancelled; False if it was cancelled before."""
        with self._shared.lock:
            if self._state == _PENDING:
                self._state = _RUNNING
                return True
            self.set_running_or_notify_cancel()
            self.function = self.kwargs = None
            self.args = ()
            self._shared.large.drop(self.large)
            self.large = ()
            return False

    def drop(self) -> None:
        """Cancel a call that was not sent, and tell those who wait."""
        self.cancel()
        self.begin()


def settle(shared: Shared, outcomes: Iterable[tuple[CallFuture[Any], Any, Any]]) -> None:
    """Finish calls together: futures, their results and their exceptions, one of the two None."""
    called_back = []
    with shared.lock:
        for future, value, exception in outcomes:
            future._result, future._exception = value, exception  # noqa: SLF001 - of this module
            future._state = _FINISHED  # noqa: SLF001 - last: `result` looks at it without the lock
            future.function = future.kwargs = None
            future.args = ()
            if future.large:
                shared.large.drop(future.large)
                future.large = ()
            if future._made_waiters:  # noqa: SLF001
                for waiter in future._made_waiters:  # noqa: SLF001
                    (waiter.add_exception if exception else waiter.add_result)(future)
            if future._made_condition:  # noqa: SLF001
                future._made_condition.notify_all()  # noqa: SLF001
            if future._made_callbacks:  # noqa: SLF001
                called_back.append(future)
    for future in called_back:
        _call_back(future)


def finish(call: CallFuture[Any], value: Any, exception: BaseException | None) -> None:
    """Finish a call that was not sent: its result and its exception, one of the two None."""
    settle(call._shared, [(call, value, exception)])  # noqa: SLF001 - of this module


def _call_back(future: CallFuture[Any]) -> None:
    """Tell those who wait by callback; whatever one of them raises, the others are told, too."""
    for callback in future._made_callbacks or ():  # noqa: SLF001 - of this module
        try:
            callback(future)
        except BaseException:
            log.exception("callback_failed")


class LateFuture(Future[Any]):
    """Stands for the calls of a `map` that found no room before its timeout."""

    def __init__(self) -> None:
        super().__init__()
        self.set_exception(TimeoutError())


def in_order(
    submit: Callable[..., Future[Any]], items: Iterator[Iterable[Any]], ahead: int | None, end_s: float
) -> Iterator[Any]:
    """The results of calls in order: the first items are submitted now, the others as results are taken.

    Args:
        submit: makes the future of an item.
        items: arguments of the calls.
        ahead: how many to submit now; None for all.
        end_s: until when to wait for results.
    """

    def submitted(count: int | None) -> Iterator[Future[Any]]:
        for args in itertools.islice(items, count):
            future = submit(*args)
            yield future
            if isinstance(future, LateFuture):
                return

    def take() -> Iterator[Any]:
        try:
            while futures:
                value = futures[0].result(None if end_s == math.inf else end_s - time.monotonic())
                del futures[0]
                futures.extend(submitted(1))
                yield value
        finally:
            for future in futures:
                future.cancel()

    futures = collections.deque(submitted(ahead))
    return take()
