"""One source, many readers: each gets what has happened since it last looked, or all anew.

A slow reader holds up nobody: it finds the last events in a ring, and begins anew when its own have left it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

RING_SIZE = 1000


class Event(NamedTuple):
    """Something that happened: its number, its kind, and JSON."""

    number: int
    kind: str
    text: str


class Feed:
    """The last events of a source, and a bell for its readers. For one event loop."""

    def __init__(self) -> None:
        self._ring: deque[Event] = deque(maxlen=RING_SIZE)
        self._bell = asyncio.Event()
        self._is_over = False
        self.number = 0

    def tell(self, kind: str, text: str, number: int | None = None) -> None:
        """Pass an event on.

        Args:
            kind: for readers.
            text: JSON.
            number: above all before; None for the next one.
        """
        self.number = self.number + 1 if number is None else number
        self._ring.append(Event(self.number, kind, text))
        self.ring_bell()

    def ring_bell(self) -> None:
        """Wake all readers."""
        self._bell.set()
        self._bell = asyncio.Event()

    def end(self) -> None:
        """Let all readers go."""
        self._is_over = True
        self.ring_bell()

    def since(self, number: int) -> list[Event] | None:
        """What came after an event; None if that cannot be told any more."""
        if number > self.number:
            return None
        if number == self.number:
            return []
        if not self._ring or self._ring[0].number > number + 1:
            return None
        return [event for event in self._ring if event.number > number]

    async def wait(self) -> None:
        """Wait for the next event, or the end."""
        if not self._is_over:
            await self._bell.wait()

    async def follow(self, number: int | None) -> AsyncIterator[list[Event] | None]:
        """Give events as they come; None where the reader has to begin anew at `number`.

        Args:
            number: the last event that the reader knows; None for none.
        """
        events = None if number is None else self.since(number)
        while not self._is_over:
            if events is None:
                number = self.number
                yield None
            elif events:
                number = events[-1].number
                yield events
            bell = self._bell
            assert number is not None
            events = self.since(number)
            if events == []:
                await bell.wait()
                events = self.since(number)
