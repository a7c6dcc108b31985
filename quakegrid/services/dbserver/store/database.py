"""One request's view of the database file, and the connections that read.

Turns rows into values and limits the cost of queries. Does not depend on the tables.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from quakegrid.errors import NotFoundError, QuakeGridError, UsageError
from quakegrid.jobs.engine_values import RowValue, TableValue
from quakegrid.services.dbserver.store import connections, sql_templates, sqlite_errors
from quakegrid.services.dbserver.store.read_limits import MESSAGE_BYTES, OBJECT_BYTES, ReadLimits, Room, Watch

# Among the touched jobs this number means that jobs were created, moved or deleted.
JOB_EVENTS = 0
# Stands among them for "jobs were marked as deleted, and their rows are to be removed".
DELETIONS = -1
# Each connection keeps the statements that it ran last. A longer text is not worth its memory.
LONGEST_KEPT_SQL = 10_000
# Reading connections that stay open while nobody reads. Usually no more reads run at once.
KEPT_READERS = 8
# Rows of a part of a result.
PART_ROWS = 500
_DEFAULT_LIMITS = ReadLimits()
# The errors of SQLite and its module, also for two statements, integers of more than 64 bits, or a NUL.
_REFUSALS = (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError)


class ConnectionSource(Protocol):
    """Where a session gets a connection for each of its statements."""

    def take(self) -> sqlite3.Connection:
        """A connection that nobody else uses until it is given back."""

    def give_back(self, connection: sqlite3.Connection, *, is_spent: bool) -> None:
        """Give a connection to other sessions, or close it if it is spent."""


class OneConnection:
    """The source of sessions that share one connection and take turns, as those of the writer do."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def take(self) -> sqlite3.Connection:
        """The connection."""
        return self._connection

    def give_back(self, connection: sqlite3.Connection, *, is_spent: bool) -> None:
        """Keep it."""


# A file of a deleted job, and whose job it was.
DoomedFile = tuple[str, str]


class SqlSession:
    """One request's view of the database. Its attributes tell what the request has done.

    `touched_jobs` are the jobs whose state or log changed, `doomed_files` the files that nobody
    needs any more once the changes are committed, `marked_jobs` the jobs that are deleted and whose rows
    are to be removed. `is_retried` if a transaction with the same work
    failed just before. `is_spent` if the last statement failed in an unforeseen way or left much
    behind in the memory, so that its connection is closed.
    """

    def __init__(
        self,
        source: ConnectionSource,
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
        self.doomed_files: list[DoomedFile] = []
        self.marked_jobs: set[int] = set()
        self._source = source
        self._largest_bytes = largest_bytes
        self._watch = watch

    def execute(self, template: str, *args: Any) -> sqlite3.Cursor:
        """Run a template; for statements that return no rows.

        Raises:
            QuakeGridError: as `sqlite_errors.from_sqlite` says.
        """
        sql, parameters = sql_templates.expand(template, *args)
        with _Loan(self, self._source) as connection:
            return self._execute(connection, sql, parameters)

    def insert_all(self, table: str, fields: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
        """Insert many rows."""
        names = list(fields)
        sql, _ = sql_templates.expand("INSERT INTO ?s (?S) VALUES (?X)", table, names, names)
        with _Loan(self, self._source) as connection:
            connection.executemany(sql, [tuple(map(sql_templates.to_sql, row)) for row in rows])

    def query(self, template: str, *args: Any) -> TableValue:
        """All rows of a SELECT or PRAGMA.

        Raises:
            ReadTooLargeError: the rows are larger than the session allows.
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
        """The first rows of a query from outside, with SQLite's own placeholders; and whether there are more.

        Raises:
            UsageError: the query takes longer than the session allows, or SQLite refuses it.
        """
        values = tuple(map(sql_templates.to_sql, parameters))
        table, is_whole = self._read(sql, values, max_row_count, self._largest_bytes)
        return table, not is_whole

    def query_fitting(self, template: str, *args: Any, largest_bytes: int) -> tuple[TableValue, bool]:
        """The first rows of a SELECT that fit into so many bytes; true if these are all."""
        sql, parameters = sql_templates.expand(template, *args)
        return self._read(sql, parameters, None, largest_bytes)

    def backup(self, target: sqlite3.Connection) -> None:
        """Copy the database, as it is at one instant, while others go on writing."""
        with _Loan(self, self._source) as connection:
            connection.backup(target)

    def read_in_parts(self, template: str, *args: Any, row_count: int) -> Iterator[list[RowValue]]:
        """All rows of a SELECT at one instant, some at a time. Read on without a pause."""
        sql, parameters = sql_templates.expand(template, *args)
        with (
            _Loan(self, self._source) as connection,
            contextlib.closing(self._execute(connection, sql, parameters)) as cursor,
        ):
            fields = tuple(column[0] for column in cursor.description)
            while rows := cursor.fetchmany(row_count):
                yield [RowValue(fields, row) for row in rows]

    def read_limited(self, template: str, *args: Any) -> Iterator[TableValue]:
        """All rows of a SELECT or PRAGMA, a part at a time, at least one; read on at once.

        Takes far less memory than `query`, if each part is sent or encoded before the next.

        Raises:
            QuakeGridError: as of `query`.
        """
        sql, parameters = sql_templates.expand(template, *args)
        assert self._largest_bytes is not None
        room = Room(self._largest_bytes, MESSAGE_BYTES, self._watch)
        with (
            _Loan(self, self._source) as connection,
            contextlib.closing(self._execute(connection, sql, parameters)) as cursor,
        ):
            fields = tuple(column[0] for column in cursor.description or ())
            is_first = True
            while (rows := cursor.fetchmany(PART_ROWS)) or is_first:
                if not all(map(room.takes, rows)):
                    raise room.error()
                yield TableValue(fields, tuple(rows))
                is_first = False

    def first(self, template: str, *args: Any) -> RowValue | None:
        """The first row, or None."""
        table = self.query(template, *args)
        return table[0] if len(table) else None

    def one(self, missing: str, template: str, *args: Any) -> RowValue:
        """The first row.

        Raises:
            NotFoundError: there is no row; `missing` is the message.
        """
        row = self.first(template, *args)
        if row is None:
            raise NotFoundError(missing)
        return row

    def translate(self, exc: Exception) -> QuakeGridError:
        """Our error for an error of SQLite; notes whether the connection is spent."""
        if not isinstance(exc, sqlite3.Error):
            self.is_spent = True
            return UsageError(f"SQLite refuses the SQL or its arguments: {exc}")
        code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code == sqlite3.SQLITE_INTERRUPT and self._watch and (reason := self._watch.reason()):
            return reason
        self.is_spent = code & 0xFF not in {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT}
        return sqlite_errors.from_sqlite(exc, self.path)

    def _execute(
        self, connection: sqlite3.Connection, sql: str, parameters: tuple[Any, ...]
    ) -> sqlite3.Cursor:
        if self._watch:
            self._watch.attach(connection)
        if len(sql) > LONGEST_KEPT_SQL:
            self.is_spent = True
        return connection.execute(sql, parameters)

    def _read(
        self, sql: str, parameters: tuple[Any, ...], max_row_count: int | None, largest_bytes: int | None
    ) -> tuple[TableValue, bool]:
        """Rows up to a number and a size; and whether these are all."""
        # An open cursor keeps the connection at the instant of its first row, so it is always closed.
        with (
            _Loan(self, self._source) as connection,
            contextlib.closing(self._execute(connection, sql, parameters)) as cursor,
        ):
            if max_row_count is None and largest_bytes is None:
                rows, is_whole = cursor.fetchall(), True
            else:
                room = None if largest_bytes is None else Room(largest_bytes, OBJECT_BYTES, self._watch)
                rows, is_whole = _fetch(cursor, max_row_count, room)
            fields = tuple(column[0] for column in cursor.description or ())
        return TableValue(fields, tuple(rows)), is_whole


class _Loan:
    """A connection for one statement of a session. It turns SQLite's errors into ours."""

    __slots__ = ("_connection", "_session", "_source")

    def __init__(self, session: SqlSession, source: ConnectionSource) -> None:
        self._session = session
        self._source = source

    def __enter__(self) -> sqlite3.Connection:
        self._session.is_spent = False
        self._connection = self._source.take()
        return self._connection

    def __exit__(self, _kind: object, exc: BaseException | None, _traceback: object) -> None:
        error: QuakeGridError | None = None
        if isinstance(exc, _REFUSALS):
            error = self._session.translate(exc)
        elif exc is not None:  # no memory, or a bug of ours
            self._session.is_spent = True
        self._source.give_back(self._connection, is_spent=self._session.is_spent)
        if error is not None:
            try:
                raise error from exc
            finally:
                # The error's traceback has this frame: the cycle would keep the statement's values in memory.
                del error


def _fetch(
    cursor: sqlite3.Cursor, max_row_count: int | None, room: Room | None
) -> tuple[list[tuple[Any, ...]], bool]:
    rows: list[tuple[Any, ...]] = []
    for row in cursor:
        if len(rows) == max_row_count or (room and not room.takes(row)):
            return rows, False
        rows.append(row)
    return rows, True


class Readers:
    """Reading connections. A new one is opened when all others are in use, and few of them stay open.

    There is one for each statement that runs, not for each thread: most threads wait for the writer or do
    not read at all, and every connection keeps pages and statements in the memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        # The connection that was given back last is used first, since it has the pages that are wanted.
        self._free: list[sqlite3.Connection] = []
        self._is_closing = False

    def session(self, user_name: str = "", limits: ReadLimits = _DEFAULT_LIMITS) -> SqlSession:
        """A session for one request.

        Args:
            user_name: who asks.
            limits: of all its queries.
        """
        watch = Watch(limits, lambda: self._is_closing)
        return SqlSession(self, self.path, user_name, largest_bytes=limits.largest_bytes, watch=watch)

    def take(self) -> sqlite3.Connection:
        """A connection that nobody else uses until it is given back.

        Raises:
            QuakeGridError: the file cannot be opened.
        """
        with self._lock:
            if self._free:
                return self._free.pop()
        return self._open()

    def give_back(self, connection: sqlite3.Connection, *, is_spent: bool) -> None:
        """Give a connection to other sessions, or close it if it is spent or there are too many.

        It forgets who watched it: a watch asks whether a caller waits, and so has the caller's answer.
        """
        connection.set_progress_handler(None, 0)
        with self._lock:
            if not is_spent and len(self._free) < KEPT_READERS:
                self._free.append(connection)
                return
            self._all.remove(connection)
        connection.close()

    def interrupt(self) -> None:
        """Stop all queries that are running, and those to come."""
        self._is_closing = True
        self._each(sqlite3.Connection.interrupt)

    def close(self) -> None:
        """Close all connections; their threads must have ended."""
        self._each(sqlite3.Connection.close)
        self._all.clear()
        self._free.clear()

    def _open(self) -> sqlite3.Connection:
        try:
            connection = connections.connect_reader(self.path)
        except sqlite3.Error as exc:
            raise sqlite_errors.from_sqlite(exc, self.path) from exc
        with self._lock:
            self._all.append(connection)
        return connection

    def _each(self, act: Callable[[sqlite3.Connection], None]) -> None:
        with self._lock:
            for connection in self._all:
                act(connection)
