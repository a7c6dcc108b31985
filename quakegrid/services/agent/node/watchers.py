"""The watchers of the agent: each has a queue that gets every change, and a stream that it reads.

A stream carries a message each second, even an empty one, so that a silent agent is noticed. Runs in the
agent's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

from quakegrid.api.v1 import nodes_pb2
from quakegrid.clients import agent as agents
from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.agent.node.limits.limits import SAMPLE_S

Changes = asyncio.Queue[orders_pb2.WatchResponse]
# How often a watcher is told of the memory and load of the node.
TELL_S = 5.0
# A watcher for which more messages wait is slow, and gets no output of workers.
MAX_WAITING_MESSAGES = 100
# A watcher so far behind does not read any more. Its stream ends, and it may watch again.
MAX_BEHIND_MESSAGES = 10_000
# Ends the stream of a watcher.
LAST_WORD = orders_pb2.WatchResponse()


class Watchers:
    """The queues of all watchers."""

    def __init__(self) -> None:
        self._queues: set[Changes] = set()

    def add(self, first: orders_pb2.WatchResponse | None = None) -> Changes:
        """A queue that gets every change from now on, after `first` if there is one."""
        queue: Changes = asyncio.Queue()
        if first is not None:
            queue.put_nowait(first)
        self._queues.add(queue)
        return queue

    def remove(self, queue: Changes) -> None:
        """Stop filling a queue."""
        self._queues.discard(queue)

    def publish(self, message: orders_pb2.WatchResponse) -> None:
        """Send a message to all watchers."""
        for queue in list(self._queues):
            if queue.qsize() < MAX_BEHIND_MESSAGES:
                queue.put_nowait(message)
            else:
                self._give_up(queue)

    def publish_output(self, message: orders_pb2.WatchResponse) -> None:
        """Send a message to the watchers that keep up."""
        for queue in self._readers():
            queue.put_nowait(message)

    def has_readers(self) -> bool:
        """Whether there is a watcher that keeps up."""
        return any(self._readers())

    async def next_change(self) -> None:
        """Wait until something is published."""
        queue = self.add()
        try:
            await queue.get()
        finally:
            self.remove(queue)

    def _give_up(self, queue: Changes) -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(LAST_WORD)

    def _readers(self) -> Iterator[Changes]:
        return (queue for queue in self._queues if queue.qsize() < MAX_WAITING_MESSAGES)


async def beating(
    changes: Changes, sample: Callable[[], nodes_pb2.NodeSample]
) -> AsyncIterator[orders_pb2.WatchResponse]:
    """Yield the messages of `changes`, and an empty message in each second without one.

    Args:
        changes: a watcher's queue.
        sample: memory and load of the node, which are told now and then.
    """
    loop = asyncio.get_running_loop()
    message, tell_s = orders_pb2.WatchResponse(), loop.time()
    while message is not LAST_WORD:
        try:
            message = await asyncio.wait_for(changes.get(), agents.BEAT_S)
        except TimeoutError:
            message = orders_pb2.WatchResponse()
        yield message
        if loop.time() >= tell_s and message is not LAST_WORD:
            tell_s = loop.time() + TELL_S
            yield orders_pb2.WatchResponse(sample=sample())


async def sampled(
    changes: Changes, status: Callable[[], nodes_pb2.AgentStatus]
) -> AsyncIterator[orders_pb2.WatchResponse]:
    """Yield the messages of `changes`, and a status in each second without a change.

    Args:
        changes: a watcher's queue.
        status: makes each status that is sent, with samples of the memory in use.
    """
    message = orders_pb2.WatchResponse()
    while message is not LAST_WORD:
        try:
            message = await asyncio.wait_for(changes.get(), SAMPLE_S)
        except TimeoutError:
            message = orders_pb2.WatchResponse(status=nodes_pb2.AgentStatus())
        if message.HasField("status"):
            message = orders_pb2.WatchResponse(status=status())
        yield message
