"""Removes the rows of jobs that are marked as deleted, a batch at a time, between the writes of others.

What is still to be removed is in the file, so a dbserver that was killed goes on where it was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

from quakegrid.errors import QuakeGridError
from quakegrid.services.dbserver.deletions import batches, marks
from quakegrid.services.dbserver.store.database import DELETIONS, Readers
from quakegrid.services.dbserver.store.writer import Writer

# A caller is told that its jobs are deleted when their rows are gone, or after so long: then the rest goes
# without it.
LONGEST_WAIT_S = 30.0
# After a disk that is full or a file that is busy.
RETRY_S = 5.0
logger = logging.getLogger("dbserver")


class Reaper:
    """A thread that sleeps until jobs are marked; `on_death` is called if it dies."""

    def __init__(self, readers: Readers, writer: Writer, on_death: Callable[[], None]) -> None:
        self._readers = readers
        self._writer = writer
        self._on_death = on_death
        self._changed = threading.Condition()
        self._is_closing = False
        self._has_work = True  # a dbserver that was killed may have left some
        self._batch_count = 0
        self._thread = threading.Thread(target=self._run, name="deletion", daemon=True)
        self._thread.start()

    def ring(self, touched_jobs: set[int]) -> None:
        """Say what a commit has changed; for any thread."""
        if DELETIONS in touched_jobs:
            with self._changed:
                self._has_work = True
                self._changed.notify_all()

    def wait_until_gone(self, job_ids: Iterable[int]) -> bool:
        """Wait until the rows of deleted jobs are gone, at most `LONGEST_WAIT_S`; false if some are left."""
        wanted = list(job_ids)
        end_s = time.monotonic() + LONGEST_WAIT_S
        seen_count = self._batch_count
        while wanted and marks.left_count(self._readers.session(), wanted):
            if self._is_closing or time.monotonic() > end_s:
                return False
            seen_count = self._wait_for_batch(seen_count, end_s - time.monotonic())
        return True

    def close(self, timeout_s: float) -> None:
        """Stop after the batch that is being removed; call it before the writer is closed."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)

    def _wait_for_batch(self, seen_count: int, timeout_s: float) -> int:
        """Wait for a batch after the first so many; returns how many there were."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or self._batch_count != seen_count, timeout_s)
            return self._batch_count

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._remove_all()
        except BaseException:
            logger.exception("reaper_died")
            self._on_death()
            raise

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not (self._has_work or self._is_closing):
                self._changed.wait()
            self._has_work = False
            return not self._is_closing

    def _is_over(self) -> bool:
        """Asked between batches; wakes those who wait for the last one."""
        with self._changed:
            self._batch_count += 1
            self._changed.notify_all()
            return self._is_closing

    def _remove_all(self) -> None:
        try:
            count = batches.delete_in_batches(self._writer, marks.remove, self._is_over)
        except QuakeGridError as exc:
            logger.warning("deletion_waits reason=%s", exc)
            with self._changed:
                self._has_work = True
                self._changed.wait_for(lambda: self._is_closing, RETRY_S)
            return
        if count:
            logger.info("rows_deleted count=%s", count)
