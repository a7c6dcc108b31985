"""Connections to the database file: one that writes, and those that only read.

Does not depend on the tables. Two things keep a reading connection from writing: the file is opened read-
only, and SQLite refuses statements that write.
"""

from __future__ import annotations

import contextlib
import sqlite3
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from quakegrid.errors import QuakeGridError
from quakegrid.services.dbserver.store import sql_templates

# How long SQLite waits for a lock that another process holds.
BUSY_TIMEOUT_S = 20.0
# Bytes of one value of a row, which is in memory before its size can be checked, also if it is cut then.
MAX_VALUE_BYTES = 32 << 20
# The same in SQL from outside, which may make values of any size.
MAX_MADE_VALUE_BYTES = 4 << 20
# Bytes of SQL from outside. The engine's longest statements have some thousand ids.
MAX_SQL_BYTES = 256 << 10
# Bytes of a pattern of LIKE, which is matched in one step that cannot be interrupted.
MAX_PATTERN_BYTES = 1000
# Pages that a reading connection keeps; the system keeps pages, too.
READER_CACHE_KB = 512
# Prepared statements that a connection keeps, of some 10 KB each or more when clients choose the SQL. The
# writer runs only SQL of ours, with columns in many combinations; Python's default.
READER_STATEMENTS = 32
WRITER_STATEMENTS = 128
# The write-ahead log is cut to this size when SQLite starts it anew; it would stay as large as it ever was.
WAL_LIMIT_BYTES = 64 << 20
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
# These pragmas read a value without an argument, and change it with one.
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
    """The connection that writes: WAL, every commit on the disk before it returns, foreign keys on.

    Raises:
        QuakeGridError: the file's disk cannot do WAL.
    """
    connection = _connect(str(path), WRITER_STATEMENTS, uri=False)
    try:
        _set_journal(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Some builds of SQLite overwrite what is deleted, and so write each page of a long log once more.
        connection.execute("PRAGMA secure_delete = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, *, is_immutable: bool = False) -> sqlite3.Connection:
    """A connection that can only read. With `is_immutable` it creates no files, and sees no changes."""
    mode = "immutable=1" if is_immutable else "mode=ro"
    connection = _connect(f"file:{quote(str(path))}?{mode}", READER_STATEMENTS, uri=True)
    connection.execute(f"PRAGMA cache_size = -{READER_CACHE_KB}")
    connection.execute("PRAGMA foreign_keys = ON")  # for those who ask
    connection.execute("PRAGMA query_only = ON")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES)
    connection.set_authorizer(_authorize)
    return connection


def fold(text: object) -> str:
    """A text in a form in which texts that differ only in case are equal, such as "ZÜRICH" and "Zürich".

    SQLite's own functions know the case of ASCII letters only.
    """
    plain = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return unicodedata.normalize("NFC", plain).casefold()


@contextlib.contextmanager
def short_wait(execute: Callable[[str], object], timeout_s: float) -> Iterator[None]:
    """Let a connection wait only so long for locks of other processes."""
    execute(f"PRAGMA busy_timeout = {timeout_s * 1000:.0f}")
    try:
        yield
    finally:
        execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")


def _connect(name: str, kept_statements: int, *, uri: bool) -> sqlite3.Connection:
    sqlite3.register_converter("timestamp", sql_templates.from_sql_time)
    connection = sqlite3.connect(
        name,
        uri=uri,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        detect_types=sqlite3.PARSE_DECLTYPES,
        cached_statements=kept_statements,
        check_same_thread=False,  # each is used by one thread at a time
    )
    connection.create_function("quakegrid_fold", 1, fold, deterministic=True)
    return connection


def _set_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Turn the write-ahead log on. SQLite answers with another mode if the disk does not allow it."""
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise QuakeGridError(
            f"SQLite cannot keep a write-ahead log for {path} (it says {mode!r}), as on some network disks; "
            "set [dbserver] file in openquake.cfg to a file on a local disk"
        )
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")


def _authorize(action: int, name: str | None, argument: str | None, *_: str | None) -> int:
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA:
        informs = name in _INFORMING_PRAGMAS or (name in _ARGLESS_PRAGMAS and argument is None)
        return sqlite3.SQLITE_OK if informs else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_DENY
