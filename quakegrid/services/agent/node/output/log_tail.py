"""The last lines of the agent's own log, for people on other machines.

The lines are kept in memory, so it does not matter where the log goes: a file, a container's output, the
journal. Runs in the agent's event loop; lines may come from any thread.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
from collections.abc import AsyncIterator

KEPT_LINES = 2000
# A follower that is so far behind gets no lines until it has caught up.
MAX_WAITING_LINES = 1000


class LogTail(logging.Handler):
    """Keeps lines in memory, and hands new ones to followers. Made in the event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._followers: set[asyncio.Queue[str]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        with contextlib.suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self._keep, self.format(record))

    def _keep(self, line: str) -> None:
        self._lines.append(line)
        for queue in self._followers:
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait(line)

    async def tail(self, line_count: int, *, follow: bool) -> AsyncIterator[list[str]]:
        """Yield the last lines and, if asked to follow, new ones for ever."""
        queue: asyncio.Queue[str] = asyncio.Queue(MAX_WAITING_LINES)
        self._followers.add(queue)
        try:
            yield list(self._lines)[-line_count:] if line_count > 0 else []
            while follow:
                lines = [await queue.get()]
                while not queue.empty():
                    lines.append(queue.get_nowait())
                yield lines
        finally:
            self._followers.discard(queue)
