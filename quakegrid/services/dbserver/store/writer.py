"""The one thread that writes: a bounded queue in front of the write connection.

All requests that wait are done in one transaction (group commit). If a request fails, all of them are done
again, each in a savepoint of its own, so that no request undoes another. So the work of a request may run
twice, and only its last run counts. An answer means that the change is on the disk.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from quakegrid.errors import PeerUnreachableError, QuakeGridError
from quakegrid.services.dbserver.store import connections, sqlite_errors
from quakegrid.services.dbserver.store.database import OneConnection, SqlSession

T = TypeVar("T")
Work = Callable[[SqlSession], T]
# Called in the writer's thread with the result, or with None and the error. It must be quick and must not
# raise.
Tell = Callable[[Any, Exception | None], None]

# A longer queue would only take memory, since every waiting request blocks one of the server's threads. The
# queue is longer than all that the event loop hands over (`test_writer_queue.py` adds it up), so the loop
# never waits.
QUEUE_LENGTH = 256
# A commit costs as much as several requests, and clients that were answered together often write again
# together. So the first request waits until there are as many as the last time, at most so long.
SIBLINGS_PAUSE_S = 0.005
_NEVER = QUEUE_LENGTH + 1
logger = logging.getLogger("dbserver")


@dataclass(slots=True)
class _Request:
    """Work that waits to be done, and the function that is told its result or error."""

    work: Work[Any]
    tell: Tell
    user_name: str = ""
    is_alone: bool = False
    result: Any = None
    error: Exception | None = None


class Writer:
    """Owns the write connection and its thread.

    `on_commit` gets the jobs whose state or log changed; `on_death` is called if the thread fails.
    Both run in the writer's thread.
    """

    def __init__(
        self, path: Path, *, on_commit: Callable[[set[int]], None], on_death: Callable[[], None]
    ) -> None:
        self._path = path
        self._connection = connections.connect_writer(path)
        self._source = OneConnection(self._connection)
        self._queue: queue.Queue[_Request | None] = queue.Queue(QUEUE_LENGTH)
        self._on_commit = on_commit
        self._on_death = on_death
        self._is_closed = False
        self._is_ending = False
        self._last_count = 0
        self._awaited_count = _NEVER
        self._have_come = threading.Event()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def run(self, work: Work[T], user_name: str = "") -> T:
        """Do `work` in the writer's thread and return its result once it is on the disk."""
        return self.submit(work, user_name).result()

    def submit(self, work: Work[T], user_name: str = "") -> Future[T]:
        """Do `work` as `run` does, and do not wait for the disk, only for a place in the queue.

        Raises:
            PeerUnreachableError: the dbserver is stopping.
        """
        future: Future[T] = Future()
        self.enqueue(work, settle(future), user_name)
        return future

    def enqueue(self, work: Work[Any], tell: Tell, user_name: str = "") -> None:
        """Do `work` as `submit` does; `tell` gets the result or the error.

        Raises:
            PeerUnreachableError: the dbserver is stopping.
        """
        self._put(_Request(work, tell, user_name))

    def run_alone(self, work: Work[T], user_name: str = "") -> T:
        """Do work as `run` does that must not be in a transaction, such as VACUUM."""
        future: Future[T] = Future()
        self._put(_Request(work, settle(future), user_name, is_alone=True))
        return future.result()

    def close(self, timeout_s: float) -> None:
        """Finish the requests that wait, refuse further ones, and close the connection."""
        self._is_closed = True
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _put(self, request: _Request) -> None:
        if self._is_closed:
            raise PeerUnreachableError("the dbserver is stopping")
        self._queue.put(request)
        if self._queue.qsize() >= self._awaited_count:
            self._have_come.set()

    def _run(self) -> None:
        try:
            while not self._is_ending:
                self._write(self._next_batch())
            self._connection.close()
        except BaseException:
            logger.exception("writer_died")
            self._on_death()
            raise
        finally:
            self._is_closed = True
            self._refuse_rest()

    def _next_batch(self) -> list[_Request]:
        """Wait for a request; returns all requests that wait then."""
        batch: list[_Request] = []
        request = self._queue.get()
        self._await_siblings()
        while request is not None:
            batch.append(request)
            try:
                request = self._queue.get_nowait()
            except queue.Empty:
                self._last_count = len(batch)
                return batch
        self._is_ending = True
        return batch

    def _await_siblings(self) -> None:
        """Wait a short time for as many requests as there were the last time."""
        self._have_come.clear()
        self._awaited_count = self._last_count - 1
        if (
            self._queue.qsize() < self._awaited_count
        ):  # read after the count is set, so that no request is missed
            self._have_come.wait(SIBLINGS_PAUSE_S)
        self._awaited_count = _NEVER

    def _refuse_rest(self) -> None:
        while not self._queue.empty():
            request = self._queue.get_nowait()
            if request is not None:
                request.tell(None, PeerUnreachableError("the dbserver is stopping"))

    def _write(self, batch: list[_Request]) -> None:
        for request in batch:
            if request.is_alone:
                self._commit([request], is_transaction=False)
        together = [request for request in batch if not request.is_alone]
        if together:
            self._commit(together, is_transaction=True)

    def _commit(self, requests: list[_Request], *, is_transaction: bool) -> None:
        """Do the requests and answer them. If one of them fails, do each on its own."""
        try:
            if is_transaction:
                touched_jobs = self._transact(requests, has_savepoints=False)
                if touched_jobs is None:  # the second try shows which request fails
                    touched_jobs = self._transact(requests, has_savepoints=True)
                    assert touched_jobs is not None
            else:
                touched_jobs = set().union(*(self._attempt(request) for request in requests))
        except sqlite3.Error as exc:
            self._fail(requests, sqlite_errors.from_sqlite(exc, self._path))
            return
        except QuakeGridError as exc:  # SQLite gave up the whole transaction
            self._fail(requests, exc)
            return
        for request in requests:
            request.tell(request.result, request.error)
        if touched_jobs:
            self._on_commit(touched_jobs)

    def _fail(self, requests: list[_Request], exc: Exception) -> None:
        for request in requests:
            request.tell(None, exc)

    def _transact(self, requests: list[_Request], *, has_savepoints: bool) -> set[int] | None:
        """Do requests in one transaction; returns the touched jobs.

        Without savepoints the first error undoes all requests, and None is returned. If another process holds
        the lock, the error is raised at once, since all callers have waited for the lock, and must not wait
        again.
        """
        touched_jobs: set[int] = set()
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for request in requests:
                if has_savepoints:
                    touched_jobs |= self._attempt_in_savepoint(request)
                else:
                    touched_jobs |= self._do(request, is_retried=False)
            self._connection.execute("COMMIT")
        except BaseException as exc:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if has_savepoints or not isinstance(exc, Exception):
                raise
            return None
        return touched_jobs

    def _attempt_in_savepoint(self, request: _Request) -> set[int]:
        """Do one request. Its error affects no other request, unless SQLite gave up the transaction."""
        self._connection.execute("SAVEPOINT request")
        touched_jobs = self._attempt(request)
        if request.error:
            if not self._connection.in_transaction:
                raise request.error
            self._connection.execute("ROLLBACK TO request")
        self._connection.execute("RELEASE request")
        return touched_jobs

    def _attempt(self, request: _Request) -> set[int]:
        try:
            return self._do(request, is_retried=True)
        except Exception as exc:  # noqa: BLE001  told to whom it belongs
            request.result = None  # of a try that was rolled back
            request.error = exc
            return set()

    def _do(self, request: _Request, *, is_retried: bool) -> set[int]:
        session = SqlSession(self._source, self._path, request.user_name, is_retried=is_retried)
        request.result = request.work(session)
        return session.touched_jobs


def settle(future: Future[Any]) -> Tell:
    """A function that settles a future, unless its caller has left and cancelled it."""

    def tell(result: Any, error: Exception | None) -> None:
        if not future.set_running_or_notify_cancel():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    return tell
