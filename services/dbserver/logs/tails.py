"""Following logs: what many wait for is read once and sent to all.

Everything happens in the event loop, except `ring`, which the writer's thread calls after each commit.
Lines always come from the database, after the last one that a follower was sent, so none is missed or
repeated. Followers are woken together, the more there are the less often, so that the work stays bounded.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from quakegrid.api.v1 import logs_pb2
from quakegrid.errors import PeerUnreachableError
from quakegrid.jobs.states import JobState
from services.dbserver.jobs import rows, transitions
from services.dbserver.logs import lines as log_lines
from services.dbserver.rpc import faults
from services.dbserver.store.database import Readers

# Each costs some kilobytes, and time whenever lines come.
MAX_FOLLOWERS = 500
PAGE_SIZE = 1000
# Sending to one follower takes the event loop about so long.
PAUSE_PER_FOLLOWER_S = 0.0001
LONGEST_PAUSE_S = 0.05
READ_THREADS = 2
# Pages of 1 MiB and more; those who follow the same job share one.
KEPT_PAGES = 16

_Key = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Page:
    """A message for followers, serialized once for all of them; `last_id` is None if it has no lines."""

    message: bytes
    last_id: int | None
    is_final: bool


@dataclass(slots=True)
class _Bell:
    """What followers of one job wait for; every ring makes a turn, numbered over all jobs.

    `last_id` is the last line that any of them was sent.
    """

    job_id: int
    turn: int
    last_id: int = 0
    follower_count: int = 0
    rung: asyncio.Event = field(default_factory=asyncio.Event)
    last_s: float = 0.0
    is_scheduled: bool = False


class LogTails:
    """The followers of all logs. Made in the event loop that serves them."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tail")
        self._bells: dict[int, _Bell] = {}
        self._pages: OrderedDict[_Key, asyncio.Future[Page]] = OrderedDict()
        self._turns = itertools.count()
        self._follower_count = 0
        self._is_closed = False

    def ring(self, job_ids: set[int]) -> None:
        """Tell that these jobs have changed; for any thread, after the commit.

        A job that gets its first follower now is read after the commit, and needs no bell.
        """
        followed = [job_id for job_id in job_ids if job_id in self._bells]
        if followed:
            self._loop.call_soon_threadsafe(self._schedule, followed)

    def close(self) -> None:
        """Send all followers away."""
        self._is_closed = True
        for bell in self._bells.values():
            bell.rung.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def place(self, job_id: int) -> Iterator[None]:
        """Be a follower of a job.

        Raises:
            TooManyFollowersError: all places are taken.
        """
        if self._follower_count >= MAX_FOLLOWERS:
            raise faults.TooManyFollowersError(
                f"{MAX_FOLLOWERS} others follow logs; stop one, or show the log without following it"
            )
        bell = self._bells.setdefault(job_id, _Bell(job_id, next(self._turns)))
        self._follower_count += 1
        bell.follower_count += 1
        try:
            yield
        finally:
            self._follower_count -= 1
            bell.follower_count -= 1
            if not bell.follower_count:
                del self._bells[job_id]

    async def next_page(self, job_id: int, after_id: int) -> Page:
        """The lines after an id, or the final state; waits for one of the two.

        Raises:
            NotFoundError: there is no such job.
            PeerUnreachableError: the dbserver is stopping.
        """
        bell = self._bells[job_id]
        while not self._is_closed:
            rung = bell.rung
            page = await self._read_once((job_id, after_id, bell.turn))
            if page.last_id is not None:
                bell.last_id = max(bell.last_id, page.last_id)
                return page
            if page.is_final:
                return page
            await rung.wait()
        raise PeerUnreachableError("the dbserver is stopping")

    async def _read_once(self, key: _Key) -> Page:
        """One read for all who ask for the same in the same turn."""
        page = self._begin_reading(key)
        if page.done():
            return page.result()
        return await asyncio.shield(page)  # whoever leaves does not take it from the others

    def _begin_reading(self, key: _Key) -> asyncio.Future[Page]:
        page = self._pages.get(key)
        if page is None:
            job_id, after_id, _ = key
            page = self._loop.run_in_executor(self._pool, self._read, job_id, after_id)
            self._pages[key] = page
            if len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
        return page

    def _read(self, job_id: int, after_id: int) -> Page:
        session = self._readers.session()
        # The state first: lines of a job that has ended are all there.
        row = session.first("SELECT status FROM job WHERE id=?x", job_id)
        if row is None:
            if after_id:
                return _final(JobState.DELETED)
            raise rows.missing(job_id)
        lines = log_lines.read_page(session, job_id, after_id, PAGE_SIZE)
        state = transitions.stored_state(row["status"])
        if state.is_final and not lines:
            return _final(state)
        message = logs_pb2.TailLogResponse(lines=lines).SerializeToString()
        return Page(message, lines[-1].id if lines else None, is_final=False)

    def _schedule(self, job_ids: list[int]) -> None:
        """Ring soon; not again before the followers have had their time."""
        for job_id in job_ids:
            bell = self._bells.get(job_id)
            if bell is None or bell.is_scheduled:
                continue
            bell.is_scheduled = True
            pause_s = min(self._follower_count * PAUSE_PER_FOLLOWER_S, LONGEST_PAUSE_S)
            self._loop.call_at(max(bell.last_s + pause_s, self._loop.time()), self._fire, bell)

    def _fire(self, bell: _Bell) -> None:
        """Read what most followers will ask for, then wake them: so none of them has to wait for it."""
        bell.is_scheduled = False
        bell.last_s = self._loop.time()
        if self._is_closed:
            return
        turn = next(self._turns)

        def wake(page: asyncio.Future[Page]) -> None:
            if not page.cancelled():
                page.exception()  # who asks for the page gets it
            bell.turn = max(bell.turn, turn)
            bell.rung.set()
            bell.rung = asyncio.Event()

        self._begin_reading((bell.job_id, bell.last_id, turn)).add_done_callback(wake)


def _final(state: JobState) -> Page:
    message = logs_pb2.TailLogResponse(final_state=state.name).SerializeToString()
    return Page(message, None, is_final=True)
