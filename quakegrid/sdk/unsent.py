"""The calls of an executor that are not on their way to a worker.

Any thread appends calls; the sender's thread takes them out, and owns the rest.
"""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from quakegrid.sdk.futures import CallFuture

T = TypeVar("T")
Call = CallFuture[Any]


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

    def __len__(self) -> int:
        begun_count = len(self.again) + len(self.suspects)
        return len(self.queue) + len(self.weighted) + len(self._heap) + begun_count

    def sort_weighted(self) -> None:
        """Put weighted calls that came into their order."""
        while self.weighted:
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
        for call in self.take_new():
            call.drop()

    def take_begun(self) -> list[Call]:
        """Take out all calls whose futures have begun."""
        begun = [*self.again, *self.suspects]
        self.again.clear()
        self.suspects.clear()
        return begun


def _taken(pop: Callable[[], T]) -> Iterator[T]:
    """What can be taken out; other threads may take, too."""
    with contextlib.suppress(IndexError):
        while True:
            yield pop()
