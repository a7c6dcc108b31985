"""One request's view of the database file through one connection, and the connections that read.

Knows how rows become values and what a query may cost; knows no table.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from quakegrid.errors import NotFoundError, QuakeGridError, UsageError
from quakegrid.jobs.engine_values import RowValue, TableValue
from services.dbserver.store import connections, sql_templates, sqlite_errors
from services.dbserver.store.read_limits import ReadLimits, Room, Watch

# Stands among the touched jobs for "jobs were created, moved or deleted".
JOB_EVENTS = 0
# A longer text is not worth its memory: Python keeps the last statements of each connection.
LONGEST_KEPT_SQL = 10_000
_DEFAULT_LIMITS = ReadLimits()
# What SQLite and its module raise: also for two statements, more than 64 bits, a NUL.
_REFUSALS = (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError)


class Session:
    """One request's view of the database; what it did that others must know is in its attributes.

    `touched_jobs` are the jobs whose state or log changed, `doomed_files` the files that nobody
    needs any more once the changes are committed. `is_retried` if a transaction with the same work
    failed just before. `is_spent` if the connection should be closed after this session, because a
    query failed in an unforeseen way or left much behind in the memory.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        user_name: str = "",
        *,
        is_retried: bool = False,
        largest_bytes: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.path = path
        self.user_name = user_name
        self.is_retried = is_retried
        self.is_spent = False
        self.touched_jobs: set[int] = set()
        self.doomed_files: list[str] = []
        self._connection = connection
        self._largest_bytes = largest_bytes
        self._watch = watch

    def execute(self, template: str, *args: Any) -> sqlite3.Cursor:
        """Run a template; for statements that return no rows.

        Raises:
            QuakeGridError: as `sqlite_errors.from_sqlite` says.
        """
        sql, parameters = sql_templates.expand(template, *args)
        try:
            return self._execute(sql, parameters)
        except _REFUSALS as exc:
            raise self._translate(exc) from exc

    def insert_all(self, table: str, fields: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
        """Insert many rows."""
        names = list(fields)
        sql, _ = sql_templates.expand("INSERT INTO ?s (?S) VALUES (?X)", table, names, names)
        try:
            self._connection.executemany(sql, [tuple(map(sql_templates.to_sql, row)) for row in rows])
        except _REFUSALS as exc:
            raise self._translate(exc) from exc

    def query(self, template: str, *args: Any) -> TableValue:
        """All rows of a SELECT or PRAGMA.

        Raises:
            ReadTooLargeError: they are larger than the session allows.
            UsageError: the session's time is over.
            QuakeGridError: as `sqlite_errors.from_sqlite` says.
        """
        sql, parameters = sql_templates.expand(template, *args)
        table, fits = self._read(sql, parameters, None, self._largest_bytes)
        if not fits:
            assert self._largest_bytes is not None
            raise Room(self._largest_bytes).error()
        return table

    def query_bounded(
        self, sql: str, parameters: Iterable[Any], *, max_row_count: int
    ) -> tuple[TableValue, bool]:
        """The first rows of somebody's query with SQLite's own placeholders; true if there are more.

        Raises:
            UsageError: it takes longer than the session allows, or SQLite refuses it.
        """
        values = tuple(map(sql_templates.to_sql, parameters))
        table, is_whole = self._read(sql, values, max_row_count, self._largest_bytes)
        return table, not is_whole

    def backup(self, target: sqlite3.Connection) -> None:
        """Copy the database, as it is at one instant, while others go on writing."""
        try:
            self._connection.backup(target)
        except _REFUSALS as exc:
            raise self._translate(exc) from exc

    def first(self, template: str, *args: Any) -> RowValue | None:
        """The first row, or None."""
        table = self.query(template, *args)
        return table[0] if len(table) else None

    def one(self, missing: str, template: str, *args: Any) -> RowValue:
        """The first row.

        Raises:
            NotFoundError: there is none; says `missing`.
        """
        row = self.first(template, *args)
        if row is None:
            raise NotFoundError(missing)
        return row

    def _execute(self, sql: str, parameters: tuple[Any, ...]) -> sqlite3.Cursor:
        if self._watch:
            self._watch.attach(self._connection)
        if len(sql) > LONGEST_KEPT_SQL:
            self.is_spent = True
        return self._connection.execute(sql, parameters)

    def _read(
        self, sql: str, parameters: tuple[Any, ...], max_row_count: int | None, largest_bytes: int | None
    ) -> tuple[TableValue, bool]:
        """Rows up to a number and a size; true if these are all."""
        try:
            # An open cursor keeps the connection at the instant of its first row, so it is always closed.
            with contextlib.closing(self._execute(sql, parameters)) as cursor:
                if max_row_count is None and largest_bytes is None:
                    rows, is_whole = cursor.fetchall(), True
                else:
                    rows, is_whole = _fetch(cursor, max_row_count, largest_bytes)
                fields = tuple(column[0] for column in cursor.description or ())
        except _REFUSALS as exc:
            raise self._translate(exc) from exc
        except BaseException:  # no memory, or a bug of ours
            self.is_spent = True
            raise
        return TableValue(fields, tuple(rows)), is_whole

    def _translate(self, exc: Exception) -> QuakeGridError:
        """Our error for one of SQLite's."""
        if not isinstance(exc, sqlite3.Error):
            self.is_spent = True
            return UsageError(f"SQLite refuses the SQL or its arguments: {exc}")
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code == sqlite3.SQLITE_INTERRUPT and self._watch and (reason := self._watch.reason()):
            return reason
        self.is_spent = code & 0xFF not in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT}
        return sqlite_errors.from_sqlite(exc, self.path)


def _fetch(
    cursor: sqlite3.Cursor, max_row_count: int | None, largest_bytes: int | None
) -> tuple[list[tuple[Any, ...]], bool]:
    rows: list[tuple[Any, ...]] = []
    room = None if largest_bytes is None else Room(largest_bytes)
    for row in cursor:
        if len(rows) == max_row_count or (room and not room.takes(row)):
            return rows, False
        rows.append(row)
    return rows, True


class Readers:
    """Reading connections, one a thread, opened when first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._lock = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        self._is_closing = False

    def session(self, user_name: str = "", limits: ReadLimits = _DEFAULT_LIMITS) -> Session:
        """A session for the calling thread; it ends the thread's last one.

        Args:
            user_name: who asks.
            limits: of all its queries.
        """
        last: Session | None = getattr(self._local, "session", None)
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is not None and last is not None and last.is_spent:
            self._drop(connection)
            connection = None
        if connection is None:
            connection = self._local.connection = self._open()
        watch = Watch(limits, lambda: self._is_closing)
        session = Session(connection, self.path, user_name, largest_bytes=limits.largest_bytes, watch=watch)
        self._local.session = session
        return session

    def interrupt(self) -> None:
        """Stop all queries that are running, and those to come."""
        self._is_closing = True
        self._each(sqlite3.Connection.interrupt)

    def close(self) -> None:
        """Close all connections; their threads must have ended."""
        self._each(sqlite3.Connection.close)
        self._all.clear()

    def _open(self) -> sqlite3.Connection:
        try:
            connection = connections.connect_reader(self.path)
        except sqlite3.Error as exc:
            raise sqlite_errors.from_sqlite(exc, self.path) from exc
        with self._lock:
            self._all.append(connection)
        return connection

    def _drop(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            self._all.remove(connection)
        connection.close()

    def _each(self, act: Callable[[sqlite3.Connection], None]) -> None:
        with self._lock:
            for connection in self._all:
                act(connection)
