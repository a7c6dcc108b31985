"""Futures of an executor, made for millions: one object each, and one lock for all of them.

The standard library's own `Future` makes ten objects, among them a lock, and settling it takes that
lock; here the results of a chunk are settled together. `wait`, `as_completed` and `asyncio.wrap_future`
use the attributes that the base class has, so these keep their names and meaning.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

T = TypeVar("T")

# The base class's states, which are not public.
_PENDING, _RUNNING, _FINISHED = "PENDING", "RUNNING", "FINISHED"
_CANCELLED = frozenset({"CANCELLED", "CANCELLED_AND_NOTIFIED"})


class CallFuture(Future[T]):
    """The future of one call, and the call.

    Args:
        condition: of all futures of the executor; its lock is an RLock.
        function: what to call, with `args` and `kwargs`.
    """

    _made_waiters: list[Any] | None = None
    _made_callbacks: list[Callable[..., Any]] | None = None

    def __init__(  # the base class's own would make the ten objects
        self,
        condition: threading.Condition,
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> None:
        self._condition = condition
        self._state = _PENDING
        self._result: Any = None
        self._exception: BaseException | None = None
        self.function: Callable[..., T] | None = function
        self.args, self.kwargs = args, kwargs

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        """The base class's list, made when it is wanted; the lock is held."""
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
        self._wait(timeout)
        if self._exception is None:
            value: T = self._result
            return value
        try:
            raise self._exception
        finally:
            del self  # break the cycle of exception, traceback and frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """The call's exception, or None; raises `CancelledError` or `TimeoutError`."""
        self._wait(timeout)
        return self._exception

    def _wait(self, timeout: float | None) -> None:
        if self._state != _FINISHED:
            with self._condition:
                if not self._condition.wait_for(self.done, timeout):
                    raise TimeoutError
        if self._state in _CANCELLED:
            raise CancelledError

    def begin(self) -> bool:
        """Mark the call as sent, after which it cannot be cancelled; False if it was cancelled before."""
        with self._condition:
            if self._state == _PENDING:
                self._state = _RUNNING
                return True
            self.set_running_or_notify_cancel()
            return False

    def drop(self) -> None:
        """Cancel a call that was not sent, and tell those who wait."""
        self.cancel()
        self.begin()


def settle(condition: threading.Condition, outcomes: Iterable[tuple[CallFuture[Any], Any, Any]]) -> None:
    """Finish calls together: futures, their results and their exceptions, one of the two None."""
    called_back = []
    with condition:
        for future, value, exception in outcomes:
            future._result, future._exception = value, exception  # noqa: SLF001 - of this module
            future._state = _FINISHED  # noqa: SLF001 - last: `result` looks at it without the lock
            future.function = future.kwargs = None
            future.args = ()
            if future._made_waiters:  # noqa: SLF001
                for waiter in future._made_waiters:  # noqa: SLF001
                    (waiter.add_exception if exception else waiter.add_result)(future)
            if future._made_callbacks:  # noqa: SLF001
                called_back.append(future)
        condition.notify_all()
    for future in called_back:
        future._invoke_callbacks()  # type: ignore[attr-defined]  # noqa: SLF001
