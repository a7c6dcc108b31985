"""One source, many readers: each gets what has happened since it last looked, or all anew.

A slow reader holds up nobody: it finds the last events in a ring, and begins anew when its own have left it.
Readers are woken a few at a time, so that requests of others are answered between them; what is made for one
of them is kept for the others, who nearly always get the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import NamedTuple

RING_SIZE = 1000
# Readers that are woken in one turn of the event loop; writing to one takes some tens of microseconds.
WOKEN_AT_ONCE = 16
# Answers for readers at different events, of which most are at the same one.
MOST_KEPT = 64
# A sign of life so often: connections whose other end has gone show it, and proxies keep them open.
BEAT_S = 15.0


class Event(NamedTuple):
    """Something that happened: its number, its kind, and JSON."""

    number: int
    kind: str
    text: str


class Feed:
    """The last events of a source, and a bell for its readers. For one event loop."""

    def __init__(self) -> None:
        self._ring: deque[Event] = deque(maxlen=RING_SIZE)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._woken: deque[asyncio.Future[None]] = deque()
        self._since: dict[int, list[Event]] = {}
        self._is_over = False
        self.number = 0

    def tell(self, kind: str, text: str) -> None:
        """Pass an event on.

        Args:
            kind: for readers.
            text: JSON.
        """
        self.number += 1
        self._ring.append(Event(self.number, kind, text))
        self._since.clear()
        self.ring_bell()

    def ring_bell(self) -> None:
        """Wake all readers; those without news tell theirs that the connection lives."""
        if not self._waiting:
            return
        is_waking = bool(self._woken)
        self._woken.extend(self._waiting)
        self._waiting.clear()
        if not is_waking:
            self._wake_some()

    def _wake_some(self) -> None:
        for _ in range(min(WOKEN_AT_ONCE, len(self._woken))):
            reader = self._woken.popleft()
            if not reader.done():  # its page has gone
                reader.set_result(None)
        if self._woken:
            asyncio.get_running_loop().call_soon(self._wake_some)

    def end(self) -> None:
        """Let all readers go."""
        self._is_over = True
        self.ring_bell()

    def since(self, number: int) -> list[Event] | None:
        """What came after an event; None if that cannot be told any more. The list is for reading only."""
        if number > self.number:
            return None
        if number == self.number:
            return []
        if not self._ring or self._ring[0].number > number + 1:
            return None
        found = self._since.get(number)
        if found is None:
            found = [event for event in self._ring if event.number > number]
            if len(self._since) < MOST_KEPT:
                self._since[number] = found
        return found

    async def follow(self, number: int | None) -> AsyncIterator[list[Event] | None]:
        """Give events as they come; None where the reader has to begin anew at `number`.

        An empty list comes when the bell was rung for nothing: the reader shows that it is there.

        Args:
            number: the last event that the reader knows; None for none.
        """
        events = None if number is None else self.since(number)
        while not self._is_over:
            if events is None:
                number = self.number
                yield None
            else:
                number = events[-1].number if events else number
                yield events
            assert number is not None
            events = self.since(number)
            if events == []:
                await self._bell()
                events = self.since(number)

    async def _bell(self) -> None:
        if not self._is_over:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting


async def beat_for_ever(feeds: Iterable[Feed]) -> None:
    """Let the readers of quiet feeds show that they are there."""
    while True:
        await asyncio.sleep(BEAT_S)
        for feed in feeds:
            feed.ring_bell()
