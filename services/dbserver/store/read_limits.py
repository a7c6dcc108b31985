"""Limits of a read: how many bytes it may return, how long it may take, and whether its caller still waits.

Uses SQLite's progress handler, which SQLite calls every few thousand steps of a statement. Does not depend on
the tables. A session has one set of limits for all its queries together.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from quakegrid.errors import PeerUnreachableError, QuakeGridError, StateError, UsageError

# Rows are kept in memory until they are sent, so their size is limited, not only their number.
MAX_RESULT_BYTES = 32 << 20
DEFAULT_TIMEOUT_S = 60.0
# SQLite's steps between two looks at the clock: some milliseconds.
_STEPS_PER_LOOK = 20_000
# How many bytes count for a value without a length, such as a number.
_VALUE_BYTES = 8
_SIZED = (str, bytes)


class ReadTooLargeError(UsageError):
    """A query returns more bytes than its limit."""


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits of all queries of one session together.

    Args:
        timeout_s: from the start of the session; None: for ever.
        largest_bytes: of the result of one query; None: any.
        is_cancelled: called every few milliseconds by the thread that reads; true ends the query.
    """

    timeout_s: float | None = DEFAULT_TIMEOUT_S
    largest_bytes: int | None = MAX_RESULT_BYTES
    is_cancelled: Callable[[], bool] | None = None


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
        connection.set_progress_handler(self._must_stop, _STEPS_PER_LOOK)

    def reason(self) -> QuakeGridError | None:
        """Why a query must stop now, or None."""
        if self._is_closing():
            return PeerUnreachableError("the dbserver is stopping")
        if self._limits.is_cancelled is not None and self._limits.is_cancelled():
            return StateError("the caller has left, so its query was stopped")
        if self._end_s is not None and time.monotonic() > self._end_s:
            return UsageError(
                f"the query took more than {self._limits.timeout_s:g} s and was stopped; "
                "ask for fewer rows, or add a condition"
            )
        return None

    def _must_stop(self) -> bool:
        return self.reason() is not None


class Room:
    """What is left of the bytes that one query may return."""

    def __init__(self, largest_bytes: int) -> None:
        self._largest_bytes = largest_bytes
        self._left_bytes = largest_bytes

    def takes(self, row: Iterable[Any]) -> bool:
        """Count one row; False if it does not fit any more."""
        for value in row:
            self._left_bytes -= len(value) if isinstance(value, _SIZED) else _VALUE_BYTES
        return self._left_bytes >= 0

    def error(self) -> ReadTooLargeError:
        """The error for a query whose rows do not fit."""
        return ReadTooLargeError(
            f"the result is larger than {self._largest_bytes >> 20} MB; ask for fewer rows (LIMIT and "
            "OFFSET, a condition) or fewer columns"
        )
