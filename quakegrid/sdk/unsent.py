"""The calls of an executor that are not on their way, and where a program waits that submits too many.

Any thread appends calls; the sender's thread takes them out, and owns the rest. `PendingLimit` is pure.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from quakegrid.sdk.futures import CallFuture, Shared

T = TypeVar("T")
Call = CallFuture[Any]
# Calls without a result: some ten MB of a program with small arguments, and 0.3 s of the smallest calls.
MAX_PENDING = 100_000
# Arguments of calls without a result: strings, bytes and arrays, and whatever was pickled.
MAX_PENDING_BYTES = 1 << 30
# What is remembered of earlier calls' sizes with each chunk that is sent.
_KEPT = 0.9


class UnsentCalls:
    """Calls that wait, in four orders."""

    def __init__(self) -> None:
        # Appended to by any thread, emptied by the sender's; both are atomic.
        self.queue: collections.deque[Call] = collections.deque()
        self.weighted: collections.deque[tuple[float, Call]] = collections.deque()
        # Begun, and given back by a worker; and those to be sent one by one, since one ended its worker.
        self.again: collections.deque[Call] = collections.deque()
        self.suspects: collections.deque[Call] = collections.deque()
        self._heap: list[tuple[float, int, Call]] = []  # of the weighted, the heaviest first
        self._numbers = itertools.count()
        # Calls that were taken out of the first two and have no result. While some are being taken out it is
        # too large rather than too small, so that other threads never see fewer calls than there are.
        self.taken_count = 0
        self.room = math.inf  # how many calls the first two may have
        self.least = math.inf  # calls without a result that there may be, however large

    def __len__(self) -> int:
        begun_count = len(self.again) + len(self.suspects)
        return len(self.queue) + len(self.weighted) + len(self._heap) + begun_count

    @property
    def pending_count(self) -> int:
        """Calls without a result; for any thread."""
        return len(self.queue) + len(self.weighted) + self.taken_count

    @property
    def free_count(self) -> float:
        """How many more calls may be submitted; for any thread."""
        return self.room - len(self.queue) - len(self.weighted)

    @property
    def is_full(self) -> bool:
        """Whether there is no room for a call; for any thread."""
        return len(self.queue) + len(self.weighted) >= self.room

    def take(self, count: int) -> None:
        """So many calls are about to be taken out of the queues."""
        self.taken_count += count
        self.room -= count

    def done(self, count: int) -> None:
        """So many of the calls that were taken out have results, or were not there. `room` is told later."""
        self.taken_count -= count

    def note_large(self, byte_count: int) -> None:
        """Large arguments have so many bytes: too many leave room for few calls; for any thread."""
        if byte_count >= MAX_PENDING_BYTES:
            self.room = min(self.room, self.least - self.taken_count)

    def sweep(self) -> None:
        """Take out of the queue what was cancelled."""
        count = len(self.queue)
        self.take(count)
        calls = [self.queue.popleft() for _ in range(count)]
        self.queue.extendleft(call for call in reversed(calls) if not call.is_cancelled or call.begin())
        self.done(count)

    def sort_weighted(self) -> None:
        """Put weighted calls that came into their order."""
        while self.weighted:
            self.take(1)
            weight, call = self.weighted.popleft()
            heapq.heappush(self._heap, (-weight, next(self._numbers), call))

    def take_heaviest(self) -> tuple[float, Call] | None:
        """Take out the heaviest call and its weight, after `sort_weighted`."""
        if not self._heap:
            return None
        weight, _, call = heapq.heappop(self._heap)
        return -weight, call

    def take_new(self) -> Iterator[Call]:
        """Take out all calls whose futures have not begun; other threads may do so at the same time."""
        yield from _taken(self.queue.popleft)
        yield from (call for _, call in _taken(self.weighted.popleft))
        yield from (call for *_, call in _taken(self._heap.pop))

    def drop_new(self) -> None:
        """Cancel all calls whose futures have not begun."""
        self.done(len(self._heap))
        for call in self.take_new():
            call.drop()

    def take_begun(self) -> list[Call]:
        """Take out all calls whose futures have begun."""
        begun = [*self.again, *self.suspects]
        self.again.clear()
        self.suspects.clear()
        return begun


class PendingLimit:
    """How many calls may wait to be sent.

    Of calls that were sent it is known how large they are. Those that wait are expected to be as large as the
    last ones that were sent, unless their arguments are large by themselves (`LargeArguments`). What many
    calls share counts once.

    Args:
        most_calls: without a result; 0 for no limit, of bytes neither.
    """

    def __init__(self, most_calls: int) -> None:
        self._most_calls = most_calls
        self._calls = self._bytes = 0.0

    def learn(self, call_count: int, byte_count: int) -> None:
        """A chunk was sent."""
        self._calls = _KEPT * self._calls + call_count
        self._bytes = _KEPT * self._bytes + byte_count

    def room(self, taken_count: int, taken_bytes: int, least: int) -> float:
        """How many calls may wait to be sent.

        Args:
            taken_count: calls that do not wait any more and have no result.
            taken_bytes: of their pickled arguments.
            least: so many calls may be without a result whatever their size, so that workers have some.
        """
        if not self._most_calls:
            return math.inf
        by_count = self._most_calls - taken_count
        if not self._bytes:
            return by_count
        by_bytes = (MAX_PENDING_BYTES - taken_bytes) * self._calls / self._bytes
        return min(by_count, max(by_bytes, least - taken_count))

    def least(self, least: int) -> float:
        """How many calls may be without a result, however large they are."""
        return min(self._most_calls, least) if self._most_calls else math.inf

    def slack(self, least: int) -> int:
        """How many calls there must be room for before those who wait are woken."""
        return max(1, min(self._most_calls // 64, least // 4))


class WaitingRoom:
    """Where threads wait that would submit too many calls.

    Args:
        shared: has the lock of all futures.
        unsent: the calls that wait.
        limit: how many may.
    """

    def __init__(self, shared: Shared, unsent: UnsentCalls, limit: PendingLimit) -> None:
        self._shared, self._unsent, self._limit = shared, unsent, limit
        self._condition = threading.Condition(shared.lock)
        unsent.room = limit.room(0, 0, 0)

    def wait(self, is_over: Callable[[], bool], end_s: float) -> bool:
        """Wait until there is room, or `is_over`; False if neither is so at `end_s`."""
        shared, unsent = self._shared, self._unsent
        with self._condition:
            shared.waiter_count += 1
            shared.note_cancelled(0)
            try:
                while unsent.is_full and not is_over():
                    remaining_s = None if end_s == math.inf else end_s - time.monotonic()
                    if remaining_s is not None and remaining_s <= 0.0:
                        return False
                    self._condition.wait(remaining_s)
            finally:
                shared.waiter_count -= 1
        return True

    def update(self, taken_bytes: int, least: int) -> None:
        """Say how much room there is, and wake those who wait if that is enough; for the sender's thread.

        Args:
            taken_bytes: pickled arguments of calls that were sent and have no result.
            least: as of `PendingLimit.room`.
        """
        unsent = self._unsent
        unsent.least = self._limit.least(least)
        unsent.room = self._limit.room(unsent.taken_count, taken_bytes, least)
        unsent.note_large(self._shared.large.byte_count)
        if self._shared.waiter_count and unsent.free_count >= self._limit.slack(least):
            self.wake()

    def wake(self) -> None:
        """Let those who wait look again; for any thread."""
        with self._condition:
            self._condition.notify_all()


def _taken(pop: Callable[[], T]) -> Iterator[T]:
    """What can be taken out; other threads may take, too."""
    with contextlib.suppress(IndexError):
        while True:
            yield pop()
