"""The tasks of calculations as they end, each followed once for all pages that look at it.

What is kept of a calculation does not grow with its tasks (`quakegrid.reports.stream`). A calculation that
nobody looks at any more makes room for another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator

import grpc

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.api.v1.task_records_pb2 import TaskRecordBlock
from quakegrid.clients import retries
from quakegrid.clients.backoff import Backoff
from quakegrid.reports.stream.task_stream import TaskStream
from quakegrid.services.web.live.feed import Event, Feed
from quakegrid.services.web.live.frames import Frames
from quakegrid.transport import grpc_channels

log = logging.getLogger("quakegrid.web")
# Calculations that are followed at once, with some megabytes each; those that nobody looks at make room.
MOST_FOLLOWED = 16
# Of these, by one person; so nobody alone can take the places of all.
MOST_OF_PERSON = 4
# How often pages hear of new tasks.
TELL_S = 1.0
# Parts of the time that are read at once.
MOST_WINDOWS = 2
# How long the first answer waits for the broker.
FIRST_S = 10.0
RECORDS_TIMEOUT_S = 60.0


class TaskFeed(Feed):
    """The tasks of one calculation, of all its time.

    Args:
        job_id: of the calculation.
        channel: gives the connection to the broker.
    """

    def __init__(self, job_id: int, channel: Callable[[], grpc.aio.Channel]) -> None:
        super().__init__()
        self.job_id, self._channel = job_id, channel
        self.frames = Frames(self, "tasks", self.snapshot)
        # Person to the number of their pages that read.
        self.readers: Counter[str] = Counter()
        self._stream = TaskStream()
        self._told_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._shown = (-1, b"")
        self._lock = asyncio.Lock()

    def since(self, number: int) -> list[Event] | None:
        """Nothing, or begin anew: what was before the newest state is of no use."""
        return [] if number == self.number else None

    def snapshot(self) -> str:
        """How far it is, as JSON; `shown` has the tasks."""
        return json.dumps({"version": self.number, "is_over": self._stream.is_over})

    async def shown(self) -> bytes:
        """What pages draw, as JSON; made once for all that ask at a time."""
        async with self._lock:
            number = self.number
            if self._shown[0] != number:
                self._shown = (number, await asyncio.to_thread(_as_json, self._stream))
            return self._shown[1]

    async def wait_for_first(self) -> None:
        """Wait until the broker has said something of the tasks, for a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                async for _ in self.follow(self.number):
                    if self.number:
                        return

    async def follow_source(self) -> None:
        """Follow the broker until the session has ended."""
        pauses = Backoff(retries.FIRST_STREAM_PAUSE_S, retries.LONGEST_STREAM_PAUSE_S)
        while True:
            try:
                await self._follow_once(pauses)
            except grpc.RpcError as exc:
                if exc.code() is not grpc.StatusCode.NOT_FOUND:
                    log.warning("tasks_not_followed job=%d code=%s", self.job_id, exc.code().name)
            self._tell_now()
            if self._stream.is_over:
                return
            await asyncio.sleep(pauses.next_s())

    async def _follow_once(self, pauses: Backoff) -> None:
        request = fleet_pb2.GetTaskRecordsRequest(id=self.job_id, follow=True)
        stream = TaskStream()  # the whole comes again
        async for response in fleet_pb2_grpc.FleetStub(self._channel()).GetTaskRecords(request):
            pauses.reset()
            async with self._lock:
                await asyncio.to_thread(_take, stream, response.blocks)
                self._stream = stream
            self._tell_soon()

    def _tell_soon(self) -> None:
        """Tell pages, at most once in a while."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(loop.time(), self._told_s + TELL_S), self._tell_now)

    def _tell_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._told_s = asyncio.get_running_loop().time()
        self.number += 1
        self.ring_bell()


class TaskFeeds:
    """The calculations whose tasks are followed; for one event loop.

    Args:
        channel: gives the connection to the broker.
    """

    def __init__(self, channel: Callable[[], grpc.aio.Channel]) -> None:
        self._channel = channel
        self._feeds: OrderedDict[int, TaskFeed] = OrderedDict()
        self._followers: dict[int, asyncio.Task[None]] = {}
        self._windows = asyncio.Semaphore(MOST_WINDOWS)

    @contextlib.contextmanager
    def reading(self, job_id: int, person: str) -> Iterator[TaskFeed]:
        """The tasks of a calculation, which are followed as long as somebody reads, and some time longer.

        Args:
            job_id: of the calculation.
            person: who reads.
        Raises:
            StateError: those of too many calculations are looked at, by this person or by all.
        """
        self._check_person(job_id, person)
        feed = self._feeds.get(job_id) or self._add(job_id)
        self._feeds.move_to_end(job_id)
        feed.readers[person] += 1
        try:
            yield feed
        finally:
            feed.readers[person] -= 1
            if not feed.readers[person]:
                del feed.readers[person]

    def _check_person(self, job_id: int, person: str) -> None:
        others = [each for each in self._feeds.values() if each.job_id != job_id and person in each.readers]
        if len(others) >= MOST_OF_PERSON:
            raise errors.StateError(
                f"you look at the tasks of {MOST_OF_PERSON} calculations already; close one of these pages"
            )

    async def window(self, job_id: int, window_s: tuple[float, float]) -> bytes:
        """What pages draw of a part of the time, as JSON.

        Args:
            job_id: of the calculation.
            window_s: seconds since its session was opened.
        Raises:
            QuakeGridError: there are no records of it, or the broker does not answer.
        """
        request = fleet_pb2.GetTaskRecordsRequest(id=job_id)
        async with self._windows:
            stream = TaskStream(window_s)
            call = fleet_pb2_grpc.FleetStub(self._channel()).GetTaskRecords(
                request, timeout=RECORDS_TIMEOUT_S
            )
            try:
                async for response in call:
                    await asyncio.to_thread(_take, stream, response.blocks)
            except grpc.RpcError as exc:
                raise grpc_channels.translate(exc, "broker", "") from exc
            finally:
                call.cancel()
            return await asyncio.to_thread(_as_json, stream)

    def end(self) -> None:
        """Let all readers go, and follow no more."""
        for job_id in list(self._feeds):
            self._drop(job_id)

    def _add(self, job_id: int) -> TaskFeed:
        unread = [each.job_id for each in self._feeds.values() if not each.readers]
        while len(self._feeds) >= MOST_FOLLOWED:
            if not unread:
                raise errors.StateError(
                    f"the tasks of {MOST_FOLLOWED} calculations are looked at already; try again later"
                )
            self._drop(unread.pop(0))
        feed = self._feeds[job_id] = TaskFeed(job_id, self._channel)
        name = f"tasks of {job_id}"
        self._followers[job_id] = asyncio.get_running_loop().create_task(feed.follow_source(), name=name)
        return feed

    def _drop(self, job_id: int) -> None:
        self._feeds.pop(job_id).end()
        self._followers.pop(job_id).cancel()


def _take(stream: TaskStream, blocks: Iterable[TaskRecordBlock]) -> None:
    for block in blocks:
        stream.take(block)


def _as_json(stream: TaskStream) -> bytes:
    return json.dumps(stream.shown(time.time()), separators=(",", ":")).encode()
