"""Those who watch the agent: a queue each, which gets every change. Runs in the agent's event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from quakegrid.api.v1 import agent_pb2

Changes = asyncio.Queue[agent_pb2.WatchResponse]
# Messages that may wait for who watches; a slow one is told nothing more of what workers print.
MAX_WAITING_MESSAGES = 100
# Ends the streams of those who watch.
LAST_WORD = agent_pb2.WatchResponse()


class Watchers:
    """The queues."""

    def __init__(self) -> None:
        self._queues: set[Changes] = set()

    def add(self, first: agent_pb2.WatchResponse | None = None) -> Changes:
        """A queue that gets every change from now on, after `first` if there is one."""
        queue: Changes = asyncio.Queue()
        if first is not None:
            queue.put_nowait(first)
        self._queues.add(queue)
        return queue

    def remove(self, queue: Changes) -> None:
        """Stop filling a queue."""
        self._queues.discard(queue)

    def publish(self, message: agent_pb2.WatchResponse) -> None:
        """Tell all."""
        for queue in self._queues:
            queue.put_nowait(message)

    def publish_output(self, message: agent_pb2.WatchResponse) -> None:
        """Tell those who keep up."""
        for queue in self._readers():
            queue.put_nowait(message)

    def has_readers(self) -> bool:
        """Whether anybody watches and keeps up."""
        return any(self._readers())

    async def next_change(self) -> None:
        """Wait until something is published."""
        queue = self.add()
        try:
            await queue.get()
        finally:
            self.remove(queue)

    def _readers(self) -> Iterator[Changes]:
        return (queue for queue in self._queues if queue.qsize() < MAX_WAITING_MESSAGES)
