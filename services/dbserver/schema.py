"""The database file: whose it is, its tables, and bringing them up to date.

Numbered migrations, one transaction each: upstream's tables, with its exact names and columns so that
the plain engine can open the file, and QuakeGrid's own beside them.
"""

from __future__ import annotations

import datetime
import fcntl
import itertools
import logging
import os
import sqlite3
from enum import Enum
from pathlib import Path
from typing import Any, TextIO

import sqlite_utils
from sqlite_utils.migrations import Migrations

from quakegrid.errors import QuakeGridError
from services.dbserver import database, faults, state_reasons, upstream_tables

MIGRATIONS = Migrations("quakegrid-dbserver")
# Checking reads the file: about a second for this much, which a start may take.
WHOLE_CHECK_BYTES = 256 << 20
# How long a file to take over may be in use.
ADOPTION_TIMEOUT_S = 2.0
logger = logging.getLogger("dbserver")


@MIGRATIONS(name="0001_upstream_tables")  # type: ignore[untyped-decorator]
def _upstream_tables(db: Any) -> None:
    """Upstream's tables, new or of an older OpenQuake."""
    if db["job"].exists():
        upstream_tables.upgrade(db)
        upstream_tables.end_unfinished_jobs(db)
    else:
        upstream_tables.create(db)


@MIGRATIONS(name="0002_request")  # type: ignore[untyped-decorator]
def _request(db: Any) -> None:
    """Answers to writing requests, so that a repeated one gets the first answer."""
    db.execute(
        """CREATE TABLE quakegrid_request(
     request_id TEXT PRIMARY KEY,
     kind TEXT NOT NULL,
     result BLOB NOT NULL,
     time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) WITHOUT ROWID"""
    )


@MIGRATIONS(name="0003_lease")  # type: ignore[untyped-decorator]
def _lease(db: Any) -> None:
    """Jobs that a driver holds; a job that ends, however, holds no lease."""
    db.execute(
        """CREATE TABLE quakegrid_lease(
     job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
     holder TEXT NOT NULL,
     lease_s REAL NOT NULL,
     start_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)"""
    )
    db.execute(
        """CREATE TRIGGER quakegrid_lease_end AFTER UPDATE OF status ON job
     WHEN new.status NOT IN ('created', 'submitted', 'executing')
     BEGIN DELETE FROM quakegrid_lease WHERE job_id = new.id; END"""
    )


@MIGRATIONS(name="0004_job_event")  # type: ignore[untyped-decorator]
def _job_event(db: Any) -> None:
    """What happened to jobs, written by triggers, so that no statement can forget it."""
    db.execute(
        """CREATE TABLE quakegrid_job_event(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     job_id INTEGER NOT NULL,
     user_name TEXT NOT NULL,
     old_status TEXT,
     new_status TEXT,
     time TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')))"""
    )
    insert = "INSERT INTO quakegrid_job_event (job_id, user_name, old_status, new_status) VALUES"
    for name, condition, values in (
        ("created", "INSERT ON job", "(new.id, new.user_name, NULL, new.status)"),
        (
            "moved",
            "UPDATE OF status ON job WHEN new.status IS NOT old.status",
            "(new.id, new.user_name, old.status, new.status)",
        ),
        ("deleted", "DELETE ON job", "(old.id, old.user_name, old.status, NULL)"),
    ):
        db.execute(f"CREATE TRIGGER quakegrid_job_{name} AFTER {condition} BEGIN {insert} {values}; END")


@MIGRATIONS(name="0005_log_error")  # type: ignore[untyped-decorator]
def _log_error(db: Any) -> None:
    """The few lines among millions that tell of errors."""
    db.execute("CREATE INDEX quakegrid_log_error ON log (job_id) WHERE level IN ('ERROR', 'CRITICAL')")


@MIGRATIONS(name="0007_state_reason")  # type: ignore[untyped-decorator]
def _state_reason(db: Any) -> None:
    """Why jobs failed or were aborted; for jobs that failed before, the last line of their last error."""
    db.execute(
        """CREATE TABLE quakegrid_state_reason(
     job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
     reason TEXT NOT NULL)"""
    )
    state_reasons.fill_in(db)


def lock_database(path: Path) -> TextIO:
    """Take the lock that makes this process the file's only server; closing the result gives it up.

    Raises:
        QuakeGridError: another dbserver has it, or the directory cannot be written.
    """
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = lock_path.open("a+", encoding="utf-8")
    except OSError as exc:
        raise QuakeGridError(
            f"cannot write in {path.parent}: {exc.strerror}; make it writable or set [dbserver] file"
        ) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        pid = lock.read().strip() or "unknown"
        lock.close()
        raise QuakeGridError(
            f"another dbserver (process {pid}) serves {path}; stop it with `quakegrid down`, "
            "or set another [dbserver] file in openquake.cfg"
        ) from None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock


def prepare_database(path: Path) -> None:
    """Create the file and its tables, or bring those of an older QuakeGrid or of OpenQuake up to date.

    Raises:
        QuakeGridError: the file holds other tables or newer ones, is damaged, in use or not writable.
    """
    try:
        if path.exists() and path.stat().st_size:
            if _find_origin(path) is Origin.OPENQUAKE:
                _adopt(path)
            _check_health(path)
        connection = database.connect_writer(path)
        try:
            MIGRATIONS.apply(sqlite_utils.Database(connection))
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise faults.from_sqlite(exc, path) from exc


class Origin(Enum):
    """Who made a file."""

    QUAKEGRID = "QuakeGrid"
    OPENQUAKE = "OpenQuake"


def _find_origin(path: Path) -> Origin:
    """Who made the file, which is only read.

    Raises:
        QuakeGridError: somebody else, or a version that we do not know.
    """
    connection = _connect_quietly(path)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        applied: set[str] = set()
        if MIGRATIONS.migrations_table in tables:
            query = "SELECT name FROM _sqlite_migrations WHERE migration_set=?"
            applied = {name for (name,) in connection.execute(query, [MIGRATIONS.name])}
        is_new = not tables - {MIGRATIONS.migrations_table, "sqlite_sequence"}
        if not applied and {"job", "log", "output", "revision_info"} <= tables:
            upstream_tables.check_adoptable(connection, str(path))
            return Origin.OPENQUAKE
    finally:
        connection.close()
    if not applied and not is_new:
        raise QuakeGridError(
            f"{path} was made neither by QuakeGrid nor by OpenQuake and is left as it is; "
            "set [dbserver] file in openquake.cfg to a new file"
        )
    known = {migration.name for migration in MIGRATIONS._migrations}  # noqa: SLF001  no other way to list them
    if applied - known:
        raise QuakeGridError(
            f"{path} was made by a newer QuakeGrid; install that one, or give another [dbserver] file"
        )
    return Origin.QUAKEGRID


def _connect_quietly(path: Path) -> sqlite3.Connection:
    """A reading connection that leaves no file behind, if there is no write-ahead log to read."""
    wal = path.with_name(f"{path.name}-wal")
    has_wal = wal.exists() and wal.stat().st_size > 0
    return database.connect_reader(path, is_immutable=not has_wal)


def _adopt(path: Path) -> None:
    """Copy the file beside itself before the migrations change it.

    Raises:
        QuakeGridError: upstream's dbserver has it open, or the copy failed.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=ADOPTION_TIMEOUT_S)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")  # fails if anybody has it open
        connection.execute("ROLLBACK")
        _check(connection, path, "PRAGMA quick_check")
        copy_path = _free_name(path)
        partial_path = copy_path.with_name(f"{copy_path.name}.part")
        copy = sqlite3.connect(partial_path)
        try:
            connection.backup(copy)
        finally:
            copy.close()
        with partial_path.open("rb") as stream:
            os.fsync(stream.fileno())
        partial_path.rename(copy_path)
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            raise QuakeGridError(
                f"another process has {path} open; stop OpenQuake's own server with `oq dbserver stop` "
                "(or `systemctl stop openquake-dbserver`) and start again"
            ) from exc
        raise
    finally:
        connection.close()
    logger.info("database_adopted file=%s copy=%s", path, copy_path)


def _free_name(path: Path) -> Path:
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    name = f"{path.name}.before-quakegrid-{date}"
    found = path.with_name(name)
    for number in itertools.count(2):
        if not found.exists():
            break
        found = path.with_name(f"{name}-{number}")
    return found


def _check_health(path: Path) -> None:
    """Look for damage before anything is written; large logs are left to `quakegrid db check`.

    Raises:
        DatabaseDamagedError: there is some.
    """
    connection = _connect_quietly(path)
    try:
        if path.stat().st_size <= WHOLE_CHECK_BYTES:
            _check(connection, path, "PRAGMA quick_check")
            return
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type='table' AND name NOT IN ('log', 'performance') "
            "AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        for (name,) in tables:
            _check(connection, path, f'PRAGMA quick_check("{name}")')
    finally:
        connection.close()


def _check(connection: sqlite3.Connection, path: Path, pragma: str) -> None:
    problems = [text for (text,) in connection.execute(pragma)]
    if problems != ["ok"]:
        raise faults.damaged(path, problems[0])
