"""A source for the loop: a thread follows a job, and hands its events over."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from typing import Any, Self

from quakegrid import errors
from quakegrid.clients.job_events import JobEvents

Event = dict[str, Any]
# A log that comes faster than it is shown waits at the dbserver.
MAX_WAITING = 1000


class JobSource:
    """Follows one job. A context manager, which ends the thread.

    Args:
        events: of the job.
    """

    def __init__(self, events: JobEvents) -> None:
        self._events = events
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting: queue.Queue[Event | errors.QuakeGridError] = queue.Queue(MAX_WAITING)
        self._is_closed = threading.Event()
        self._bell_lock = threading.Lock()  # the thread rings no bell that is closed
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_closed.set()
        with self._bell_lock:
            os.close(self._bell)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._bell

    def read(self) -> list[Event]:
        """The events that have come.

        Raises:
            QuakeGridError: the job cannot be followed any more.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        events: list[Event] = []
        while True:
            try:
                found = self._waiting.get_nowait()
            except queue.Empty:
                return events
            if isinstance(found, errors.QuakeGridError):
                raise found
            events.append(found)

    def abort(self, _number: int) -> None:
        """Let the broker abort the job, wherever it runs."""
        threading.Thread(target=self._abort, name="abort", daemon=True).start()

    def _abort(self) -> None:
        try:
            self._events.abort()
        except errors.QuakeGridError as exc:
            self._put({"event": "log", "level": "ERROR", "message": f"not aborted: {exc}"})

    def _follow(self) -> None:
        try:
            for event in self._events.follow():
                if self._is_closed.is_set():
                    return
                self._put(event)
        except errors.QuakeGridError as exc:
            self._put(exc)

    def _put(self, event: Event | errors.QuakeGridError) -> None:
        while not self._is_closed.is_set():
            try:
                self._waiting.put(event, timeout=1.0)
            except queue.Full:
                continue
            with self._bell_lock:
                if not self._is_closed.is_set():
                    os.eventfd_write(self._bell, 1)
            return
