"""The one place where records of the audit log come in: written together, and told to those who follow.

The event loop never waits for the writer: one write at a time is under way, with all records that came before
it. While the disk refuses them, records wait in memory; beyond a limit the oldest are lost, and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator
from functools import partial

from quakegrid import errors
from quakegrid.access import audits
from quakegrid.access.audits import AuditRecord
from quakegrid.services.dbserver.audit import rows
from quakegrid.services.dbserver.store.database import SqlSession
from quakegrid.services.dbserver.store.writer import Writer

MOST_WAITING = 10_000
BATCH_ROWS = 500
# After a disk that is full or a file that is busy.
RETRY_S = 5.0
MAX_FOLLOWERS = 100
logger = logging.getLogger("dbserver")


class AuditBook:
    """Takes the records of this dbserver. Made in the event loop, where everything but the write happens.

    Args:
        writer: the thread that writes.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer, self._loop = writer, asyncio.get_running_loop()
        self._waiting: deque[AuditRecord] = deque()
        self._lost_count = 0
        self._is_writing = self._is_closed = False
        self._changed = asyncio.Event()
        self._follower_count = 0

    def put(self, record: AuditRecord) -> None:
        """Keep a record; see `audited_calls.AuditSink`."""
        self._waiting.append(record)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._lost_count += 1
        self._write()

    def ring(self) -> None:
        """Wake those who follow; in the event loop, when records are on the disk."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changes(self) -> AsyncGenerator[None, None]:
        """Now, and whenever there are new records.

        Raises:
            PeerUnreachableError: the dbserver is stopping.
            StateError: too many follow.
        """
        if self._follower_count >= MAX_FOLLOWERS:
            raise errors.StateError(f"{MAX_FOLLOWERS} commands follow the audit log, which is the most")
        self._follower_count += 1
        try:
            while not self._is_closed:
                changed = self._changed
                yield
                await changed.wait()
            raise errors.PeerUnreachableError("the dbserver is stopping")
        finally:
            self._follower_count -= 1

    def send_away(self) -> None:
        """End all that follow."""
        self._is_closed = True
        self.ring()

    def close(self) -> None:
        """Give all that waits to the writer, which is closed after this; later records are lost."""
        self._is_writing = False
        self._write()

    def _write(self) -> None:
        if self._is_writing or not (self._waiting or self._lost_count):
            return
        count = len(self._waiting) if self._is_closed else BATCH_ROWS
        batch = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        if self._lost_count:
            batch.append(audits.lost(self._lost_count, "dbserver", time.time()))
            self._lost_count = 0
        self._is_writing = True

        def tell(_result: None, error: Exception | None) -> None:
            self._loop.call_soon_threadsafe(self._on_written, batch, error)

        try:
            self._writer.enqueue(partial(_insert, records=batch), tell)
        except errors.PeerUnreachableError:
            logger.warning("audit_lost count=%d reason=stopping", len(batch))

    def _on_written(self, batch: list[AuditRecord], error: Exception | None) -> None:
        if error is None:
            self._is_writing = False
            self.ring()
            self._write()
            return
        logger.warning("audit_waits count=%d reason=%s", len(batch), error)
        lost_count = max(len(self._waiting) + len(batch) - MOST_WAITING, 0)
        self._lost_count += lost_count
        self._waiting.extendleft(reversed(batch[lost_count:]))
        self._loop.call_later(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._is_writing = False
        self._write()


def _insert(session: SqlSession, records: list[AuditRecord]) -> None:
    rows.insert(session, records)
