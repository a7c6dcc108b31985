"""Keeps the file from growing without end: deletes old logs, events, answers and records of the audit log.

The rows are found on a reading connection and deleted in small batches, so that other writes are made in
between. Whole logs are deleted; those of the jobs that ended first go first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from quakegrid.errors import QuakeGridError
from quakegrid.jobs.states import UNFINISHED
from quakegrid.services.dbserver.audit import rows as audit_rows
from quakegrid.services.dbserver.deletions import batches
from quakegrid.services.dbserver.jobs import events
from quakegrid.services.dbserver.store import idempotence
from quakegrid.services.dbserver.store.database import Readers, SqlSession
from quakegrid.services.dbserver.store.read_limits import UNLIMITED
from quakegrid.services.dbserver.store.writer import Writer

EVERY_S = 3600.0
_ENDED = (
    "SELECT id FROM job WHERE status NOT IN (?X) AND coalesce(stop_time, start_time) < datetime('now', ?x) "
    "AND EXISTS (SELECT 1 FROM log WHERE job_id = job.id) ORDER BY coalesce(stop_time, start_time), id"
)
logger = logging.getLogger("dbserver")


@dataclass(frozen=True, slots=True)
class Retention:
    """How long logs of ended jobs, and the audit log, are kept; 0 means for ever.

    `days` counts from the end of the job. While the database is larger than `largest_bytes`, the oldest logs
    go. `audit_days` counts from each record.
    """

    days: int = 0
    largest_bytes: int = 0
    audit_days: int = 0


class Housekeeper:
    """A thread that cleans up at the start and every hour; `on_death` is called if the thread fails."""

    def __init__(
        self, readers: Readers, writer: Writer, retention: Retention, on_death: Callable[[], None]
    ) -> None:
        self._on_death = on_death
        self._readers = readers
        self._writer = writer
        self._retention = retention
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """Stop after the batch that is being deleted; call it before the writer is closed."""
        self._closing.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._clean_up()
                self._closing.wait(EVERY_S)
        except BaseException:
            logger.exception("housekeeper_died")
            self._on_death()
            raise

    def _clean_up(self) -> None:
        try:
            clean_up(self._readers, self._writer, self._retention, self._closing.is_set)
        except QuakeGridError as exc:  # the disk is full or the file busy: the next time may succeed
            logger.warning("housekeeping_failed reason=%s", exc)


def clean_up(readers: Readers, writer: Writer, retention: Retention, is_closing: Callable[[], bool]) -> int:
    """Delete what is old; returns how many log lines were deleted."""
    forget_audit = partial(audit_rows.forget_old, days=retention.audit_days, now_s=time.time())
    for forget_old in (events.forget_old, idempotence.forget_old, forget_audit):
        batches.delete_in_batches(writer, forget_old, is_closing)
    session = readers.session(limits=UNLIMITED)
    count = 0
    if retention.days:
        for job_id in _ended_jobs(session, f"-{retention.days} days"):
            count += _drop_log(writer, job_id, is_closing)
    if retention.largest_bytes and used_bytes(session) > retention.largest_bytes:
        for job_id in _ended_jobs(session, "+1 day"):
            count += _drop_log(writer, job_id, is_closing)
            if is_closing() or used_bytes(session) <= retention.largest_bytes:
                break
    return count


def used_bytes(session: SqlSession) -> int:
    """Bytes of the database that hold something."""
    pages, free, size = (
        session.query(f"PRAGMA {name}").rows[0][0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _ended_jobs(session: SqlSession, modifier: str) -> list[int]:
    return [row["id"] for row in session.query(_ENDED, list(UNFINISHED), modifier)]


def _drop_log(writer: Writer, job_id: int, is_closing: Callable[[], bool]) -> int:
    count = batches.drop_log(writer, job_id, is_closing)
    logger.info("log_dropped job=%s lines=%s", job_id, count)
    return count
