"""Following logs: a page that many followers wait for is read once and sent to all of them.

Lines always come from the database, beginning after the last line that a follower got. So no line is missed
or sent twice.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from quakegrid.api.v1 import logs_pb2
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.jobs import rows, transitions
from quakegrid.services.dbserver.logs import lines as log_lines
from quakegrid.services.dbserver.store.bells import Bell, Bells
from quakegrid.services.dbserver.store.database import Readers

# Each follower takes some kilobytes, and some time whenever lines come.
MAX_FOLLOWERS = 500
PAGE_SIZE = 1000
READ_THREADS = 2
# How many pages of 1 MiB and more; the followers of one job share a page.
KEPT_PAGES = 16

# Job, last line before the page, and turn of the job's bell.
_PageKey = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class TailPage:
    """A message for followers, serialized once for all of them; `last_id` is None if it has no lines."""

    message: bytes
    last_id: int | None
    is_final: bool


class LogTails:
    """The followers of all logs. Made in the event loop that serves them."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._loop = asyncio.get_running_loop()
        self._pool = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="tail")
        self._pages: OrderedDict[_PageKey, asyncio.Future[TailPage]] = OrderedDict()
        refusal = f"{MAX_FOLLOWERS} others follow logs; stop one, or show the log without following it"
        self._bells = Bells(MAX_FOLLOWERS, refusal, self._read_ahead)

    def ring(self, job_ids: set[int]) -> None:
        """Note that the logs or states of these jobs have changed; for any thread, after the commit."""
        self._bells.ring(job_ids)

    def close(self) -> None:
        """End the streams of all followers."""
        self._bells.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def follow(self, job_id: int) -> AbstractContextManager[Bell]:
        """Be a follower of a job's log, with the bell that `next_page` needs.

        Raises:
            TooManyFollowersError: there are too many followers.
        """
        return self._bells.follow(job_id)

    async def next_page(self, bell: Bell, after_id: int) -> TailPage:
        """The lines after an id, or the final state; waits for one of the two.

        Raises:
            NotFoundError: there is no such job.
            PeerUnreachableError: the dbserver is stopping.
        """
        while True:
            self._bells.check_open()
            rung = bell.rung
            page = await self._read_once((bell.subject, after_id, bell.turn))
            if page.last_id is not None:
                bell.last_id = max(bell.last_id, page.last_id)
                return page
            if page.is_final:
                return page
            await rung.wait()

    async def _read_once(self, key: _PageKey) -> TailPage:
        """Read once for all followers who ask for the same page in the same turn."""
        page = self._begin_reading(key)
        if page.done():
            return page.result()
        return await asyncio.shield(page)  # a follower that leaves does not take the page from the others

    def _read_ahead(self, bell: Bell, turn: int) -> asyncio.Future[TailPage]:
        page = self._begin_reading((bell.subject, bell.last_id, turn))
        page.add_done_callback(_retrieve_error)
        return page

    def _begin_reading(self, key: _PageKey) -> asyncio.Future[TailPage]:
        page = self._pages.get(key)
        if page is None:
            job_id, after_id, _ = key
            page = self._loop.run_in_executor(self._pool, self._read, job_id, after_id)
            self._pages[key] = page
            if len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
        return page

    def _read(self, job_id: int, after_id: int) -> TailPage:
        session = self._readers.session()
        # The state is read first: all lines of a job that has ended are there.
        row = session.first("SELECT status FROM job WHERE id=?x", job_id)
        if row is None:
            if after_id:
                return _final_page(JobState.DELETED)
            raise rows.missing(job_id)
        lines = log_lines.read_page(session, job_id, after_id, PAGE_SIZE)
        state = transitions.stored_state(row["status"])
        if state.is_final and not lines:
            return _final_page(state)
        message = logs_pb2.TailLogResponse(lines=lines).SerializeToString()
        return TailPage(message, lines[-1].id if lines else None, is_final=False)


def _retrieve_error(page: asyncio.Future[TailPage]) -> None:
    """Keep asyncio from logging the error of a page; the followers who ask for the page get it."""
    if not page.cancelled():
        page.exception()


def _final_page(state: JobState) -> TailPage:
    message = logs_pb2.TailLogResponse(final_state=state.name).SerializeToString()
    return TailPage(message, None, is_final=True)
