"""Watching jobs: a watcher gets all jobs, then each change, for as long as it stays.

A watcher is a coroutine and holds no thread while it waits. Threads read for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from quakegrid.api.v1 import jobs_pb2
from quakegrid.services.dbserver.jobs import events
from quakegrid.services.dbserver.store.bells import Bells
from quakegrid.services.dbserver.store.database import JOB_EVENTS, Readers, SqlSession

# Each watcher keeps a snapshot of some megabytes until it is sent, and reads after each change of a job.
MAX_WATCHERS = 32
READ_THREADS = 2
T = TypeVar("T")


class JobWatches:
    """All watchers of jobs. Made in the event loop that serves them.

    Args:
        readers: connections that read.
    """

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        # Of their own: the threads of calls may all wait for the writer, which a watcher never does.
        self._threads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="watch")
        self._loop = asyncio.get_running_loop()
        self._bells = Bells(MAX_WATCHERS, f"{MAX_WATCHERS} others watch jobs; stop one, or list jobs")

    def ring(self, touched_jobs: set[int]) -> None:
        """Note what a commit has changed; for any thread."""
        if JOB_EVENTS in touched_jobs:
            self._bells.ring({JOB_EVENTS})

    def close(self) -> None:
        """End the streams of all watchers."""
        self._bells.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def watch(self, request: jobs_pb2.WatchJobsRequest) -> AsyncGenerator[bytes, None]:
        """Serialized `WatchJobsResponse`s: a snapshot, unless the watcher needs none, then all events.

        Raises:
            TooManyFollowersError: there are too many watchers.
            PeerUnreachableError: the dbserver is stopping.
        """
        with self._bells.follow(JOB_EVENTS) as bell:
            last_id = request.after_event_id
            if snapshot := await self._read(lambda session: _begin(session, request)):
                last_id = snapshot.event_id
                while part := await self._in_thread(snapshot.take):
                    yield part
            while True:
                self._bells.check_open()
                rung, after_id = bell.rung, last_id
                found, last_id = await self._read_events(after_id, request.user_name)
                for event in found:
                    yield event
                if last_id == after_id:
                    await rung.wait()

    async def _read_events(self, after_id: int, user_name: str) -> tuple[list[bytes], int]:
        return await self._read(lambda session: events.read(session, after_id, user_name))

    async def _read(self, read: Callable[[SqlSession], T]) -> T:
        return await self._in_thread(lambda: read(self._readers.session()))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._threads, work)


def _begin(session: SqlSession, request: jobs_pb2.WatchJobsRequest) -> events.Snapshot | None:
    """A snapshot for a watcher that has missed events which the database does not have any more."""
    if request.HasField("after_event_id") and events.is_known(session, request.after_event_id):
        return None
    return events.Snapshot(session, request.user_name)
