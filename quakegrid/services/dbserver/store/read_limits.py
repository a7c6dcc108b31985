"""Limits of a read: how many bytes it may return, how long it may take, and whether its caller still waits.

A result is in the memory until its caller has it, however slow that caller is. So only few results may be
large at the same time (`LargeResults`), and the others wait for a place.

Uses SQLite's progress handler, which SQLite calls every few thousand steps of a statement. Does not depend on
the tables. A session has one set of limits for all its queries together.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from quakegrid.errors import PeerUnreachableError, QuakeGridError, StateError, UsageError
from quakegrid.services.dbserver.store.connections import MAX_VALUE_BYTES

# Rows are kept in memory until they are sent, so their size is limited, not only their number.
MAX_RESULT_BYTES = 16 << 20
# Of rows that become messages or values before they are sent, which takes some times their room.
MAX_TABLE_BYTES = 8 << 20
# A larger result needs a place.
SMALL_RESULT_BYTES = 256 << 10
# Results that may be large at the same time.
LARGE_RESULTS = 2
# How often a read that waits for a place looks whether it must stop.
_PLACE_LOOK_S = 0.05
DEFAULT_TIMEOUT_S = 60.0
# SQLite's steps between two looks at the clock: some milliseconds.
_STEPS_PER_LOOK = 20_000
# How many bytes count for a value without a length, such as a number.
_VALUE_BYTES = 8
# What a value costs beside its text in a message.
MESSAGE_BYTES = 5
# What a value costs beside its text as an object of Python.
OBJECT_BYTES = 50
_SIZED = (str, bytes)


class ReadTooLargeError(UsageError):
    """A query returns more bytes than its limit."""


class LargeResults:
    """The places for large results, of all callers together."""

    def __init__(self, count: int = LARGE_RESULTS) -> None:
        self._free = threading.Semaphore(count)

    def place(self) -> Place:
        """A place for one call, which it takes when its result gets large."""
        return Place(self._free)


class Place:
    """The place of one call's result; for any thread."""

    def __init__(self, free: threading.Semaphore) -> None:
        self._free = free
        self._lock = threading.Lock()
        self._is_taken = False
        self._is_over = False

    def take(self, check: Callable[[], None]) -> None:
        """Wait for a place, unless it is taken already.

        Args:
            check: raises an error when there is no more use in waiting.
        Raises:
            StateError: it was given back before.
        """
        while not (self._is_taken or self._free.acquire(timeout=_PLACE_LOOK_S)):
            check()
        with self._lock:
            if not self._is_over:
                self._is_taken = True
                return
        self._free.release()
        raise _caller_has_left()

    def give_back_after(self, context: Any) -> None:
        """Give it back when a call has ended and its response is sent; in the event loop.

        gRPC keeps what is called then in a cycle with the call, so only the few large ones ask for it.
        """
        if self._is_taken:
            context.add_done_callback(lambda _: self.give_back())

    def give_back(self) -> None:
        """The result is sent, or nobody wants it; also if no place was taken."""
        with self._lock:
            is_taken, self._is_taken, self._is_over = self._is_taken, False, True
        if is_taken:
            self._free.release()


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits of all queries of one session together.

    Args:
        timeout_s: from the start of the session; None: for ever.
        largest_bytes: of the result of one query; None: any.
        is_cancelled: called every few milliseconds by the thread that reads; true ends the query.
        place: taken when a result gets large; None: it needs none.
        largest_value_bytes: of each value that SQLite reads or makes.
    """

    timeout_s: float | None = DEFAULT_TIMEOUT_S
    largest_bytes: int | None = MAX_RESULT_BYTES
    is_cancelled: Callable[[], bool] | None = None
    place: Place | None = None
    largest_value_bytes: int = MAX_VALUE_BYTES


# No limits, for our own work on the whole file, such as a check, whose time depends on the file's size.
UNLIMITED = ReadLimits(timeout_s=None, largest_bytes=None)


class Watch:
    """Ends the queries of one session when its time is over or its caller has left.

    Args:
        limits: of the session, which starts now.
        is_closing: true when the dbserver stops.
    """

    def __init__(self, limits: ReadLimits, is_closing: Callable[[], bool]) -> None:
        self._limits = limits
        self._is_closing = is_closing
        self._end_s = None if limits.timeout_s is None else time.monotonic() + limits.timeout_s

    def attach(self, connection: sqlite3.Connection) -> None:
        """Let SQLite ask this watch from now on, in place of any other."""
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._limits.largest_value_bytes)
        connection.set_progress_handler(self._must_stop, _STEPS_PER_LOOK)

    def reason(self) -> QuakeGridError | None:
        """Why a query must stop now, or None."""
        if self._is_closing():
            return PeerUnreachableError("the dbserver is stopping")
        if self._limits.is_cancelled is not None and self._limits.is_cancelled():
            return _caller_has_left()
        if self._end_s is not None and time.monotonic() > self._end_s:
            return UsageError(
                f"the query took more than {self._limits.timeout_s:g} s and was stopped; "
                "ask for fewer rows, or add a condition"
            )
        return None

    def check(self) -> None:
        """Raise the reason why a query must stop now, if there is one."""
        if reason := self.reason():
            raise reason

    def take_place(self) -> None:
        """Wait until the result may be large."""
        if self._limits.place is not None:
            self._limits.place.take(self.check)

    def _must_stop(self) -> bool:
        return self.reason() is not None


def _caller_has_left() -> StateError:
    return StateError("the caller has left, so its query was stopped")


class Room:
    """What is left of the bytes that one query may return.

    Args:
        largest_bytes: of all rows.
        object_bytes: added for each value.
        watch: asked for a place when the rows get large.
    """

    def __init__(self, largest_bytes: int, object_bytes: int = 0, watch: Watch | None = None) -> None:
        self._largest_bytes = largest_bytes
        self._object_bytes = object_bytes
        self._watch = watch
        self._used_bytes = 0

    def takes(self, row: Iterable[Any]) -> bool:
        """Count one row; False if it does not fit any more."""
        for value in row:
            size_bytes = len(value) if isinstance(value, _SIZED) else _VALUE_BYTES
            self._used_bytes += size_bytes + self._object_bytes
        if self._used_bytes > SMALL_RESULT_BYTES and self._watch is not None:
            self._watch.take_place()
            self._watch = None
        return self._used_bytes <= self._largest_bytes

    def error(self) -> ReadTooLargeError:
        """The error for a query whose rows do not fit."""
        return ReadTooLargeError(
            f"the result is larger than {self._largest_bytes >> 20} MB; ask for fewer rows (LIMIT and "
            "OFFSET, a condition) or fewer columns"
        )
