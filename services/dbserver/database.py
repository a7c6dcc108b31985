"""Connections to the database file, and one request's view through one of them.

Knows SQLite's settings and how rows become values; knows no table. Reading connections are
read-only twice over: by how the file is opened and by what SQLite lets them run.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from quakegrid.errors import NotFoundError, UsageError
from quakegrid.values import RowValue, TableValue
from services.dbserver import faults, sql_templates, text_search

# How long SQLite waits for a lock that a process other than ours holds.
BUSY_TIMEOUT_S = 20.0
# Stands among the touched jobs for "jobs were created, moved or deleted".
JOB_EVENTS = 0
# What one query may return: rows of any length must not fill the memory.
MAX_RESULT_BYTES = 32 << 20
MAX_VALUE_BYTES = 64 << 20
# SQLite's steps between two looks at the clock: some milliseconds.
_STEPS_PER_LOOK = 20_000
_READING = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
_INFORMING_PRAGMAS = frozenset(
    {
        "compile_options",
        "database_list",
        "encoding",
        "foreign_key_check",
        "foreign_key_list",
        "index_info",
        "index_list",
        "integrity_check",
        "quick_check",
        "table_info",
        "table_list",
        "table_xinfo",
    }
)
# These inform without an argument and change something with one.
_ARGLESS_PRAGMAS = frozenset(
    {
        "foreign_keys",
        "freelist_count",
        "journal_mode",
        "page_count",
        "page_size",
        "synchronous",
        "user_version",
    }
)


def connect_writer(path: Path) -> sqlite3.Connection:
    """The connection that writes: WAL, every commit on the disk before it returns, foreign keys on."""
    connection = _connect(str(path), uri=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def connect_reader(path: Path, *, is_immutable: bool = False) -> sqlite3.Connection:
    """A connection that can only read; `is_immutable` leaves no file behind, but sees no changes."""
    mode = "immutable=1" if is_immutable else "mode=ro"
    connection = _connect(f"file:{quote(str(path))}?{mode}", uri=True)
    connection.execute("PRAGMA foreign_keys = ON")  # for those who ask
    connection.execute("PRAGMA query_only = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.set_authorizer(_authorize)
    return connection


def _connect(name: str, *, uri: bool) -> sqlite3.Connection:
    sqlite3.register_converter("timestamp", sql_templates.from_sql_time)
    connection = sqlite3.connect(
        name,
        uri=uri,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        detect_types=sqlite3.PARSE_DECLTYPES,
        check_same_thread=False,  # each is used by one thread, and closed by the main one
    )
    text_search.register(connection)
    return connection


def _authorize(action: int, name: str | None, argument: str | None, *_: str | None) -> int:
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA:
        informs = name in _INFORMING_PRAGMAS or (name in _ARGLESS_PRAGMAS and argument is None)
        return sqlite3.SQLITE_OK if informs else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_DENY


class Session:
    """One request's view of the database; what it did that others must know is in its attributes.

    `touched_jobs` are the jobs whose state or log changed, `doomed_files` the files that nobody
    needs any more once the changes are committed. `is_retried` if a transaction with the same work
    failed just before.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, user_name: str = "", *, is_retried: bool = False
    ) -> None:
        self.path = path
        self.user_name = user_name
        self.is_retried = is_retried
        self.touched_jobs: set[int] = set()
        self.doomed_files: list[str] = []
        self._connection = connection

    def execute(self, template: str, *args: Any) -> sqlite3.Cursor:
        """Run a template.

        Raises:
            QuakeGridError: as `faults.from_sqlite` says.
        """
        sql, parameters = sql_templates.expand(template, *args)
        try:
            return self._connection.execute(sql, parameters)
        except sqlite3.Error as exc:
            raise faults.from_sqlite(exc, self.path) from exc
        except (sqlite3.Warning, OverflowError, ValueError) as exc:  # two statements; 65 bits; NUL
            raise UsageError(f"SQLite refuses the SQL or its arguments: {exc}") from exc

    def insert_all(self, table: str, fields: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
        """Insert many rows."""
        names = list(fields)
        sql, _ = sql_templates.expand("INSERT INTO ?s (?S) VALUES (?X)", table, names, names)
        try:
            self._connection.executemany(sql, [tuple(map(sql_templates.to_sql, row)) for row in rows])
        except sqlite3.Error as exc:
            raise faults.from_sqlite(exc, self.path) from exc

    def query(self, template: str, *args: Any) -> TableValue:
        """All rows of a SELECT or PRAGMA."""
        cursor = self.execute(template, *args)
        try:
            rows = tuple(cursor.fetchall())
        except sqlite3.Error as exc:
            raise faults.from_sqlite(exc, self.path) from exc
        return TableValue(tuple(column[0] for column in cursor.description or ()), rows)

    def query_bounded(
        self, sql: str, parameters: Iterable[Any], *, max_row_count: int, timeout_s: float
    ) -> tuple[TableValue, bool]:
        """The first rows of somebody's query with SQLite's own placeholders; true if there are more.

        Raises:
            UsageError: it takes longer than `timeout_s`, or SQLite refuses it.
        """
        end_s = time.monotonic() + timeout_s
        self._connection.set_progress_handler(lambda: time.monotonic() > end_s, _STEPS_PER_LOOK)
        rows: list[tuple[Any, ...]] = []
        left_bytes = MAX_RESULT_BYTES
        is_truncated = False
        try:
            cursor = self._connection.execute(sql, tuple(map(sql_templates.to_sql, parameters)))
            for row in cursor:
                left_bytes -= sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
                is_truncated = len(rows) == max_row_count or left_bytes < 0
                if is_truncated:
                    break
                rows.append(row)
        except sqlite3.Error as exc:
            if getattr(exc, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise UsageError(f"the query took more than {timeout_s:g} s and was stopped") from exc
            raise faults.from_sqlite(exc, self.path) from exc
        except (sqlite3.Warning, OverflowError, ValueError) as exc:
            raise UsageError(f"SQLite refuses the SQL or its parameters: {exc}") from exc
        finally:
            self._connection.set_progress_handler(None, 0)
        fields = tuple(column[0] for column in cursor.description or ())
        cursor.close()
        return TableValue(fields, tuple(rows)), is_truncated

    def backup(self, target: sqlite3.Connection) -> None:
        """Copy the database, as it is at one instant, while others go on writing."""
        try:
            self._connection.backup(target)
        except sqlite3.Error as exc:
            raise faults.from_sqlite(exc, self.path) from exc

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


class Readers:
    """Reading connections, one a thread, opened when first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []

    def session(self, user_name: str = "") -> Session:
        """A session for the calling thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                connection = connect_reader(self.path)
            except sqlite3.Error as exc:
                raise faults.from_sqlite(exc, self.path) from exc
            self._local.connection = connection
            self._all.append(connection)
        return Session(connection, self.path, user_name)

    def interrupt(self) -> None:
        """Stop all queries that are running."""
        self._each(sqlite3.Connection.interrupt)

    def close(self) -> None:
        """Close all connections; their threads must have ended."""
        self._each(sqlite3.Connection.close)
        self._all.clear()

    def _each(self, act: Callable[[sqlite3.Connection], None]) -> None:
        for connection in list(self._all):
            act(connection)
