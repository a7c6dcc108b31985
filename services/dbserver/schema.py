"""The tables: upstream's, with its exact names and columns, and QuakeGrid's own beside them.

Numbered migrations, one transaction each. The tables are what upstream's scripts 0000 to 0010 come to,
and `revision_info` says so, so that the plain engine can open the file.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any, TextIO

import sqlite_utils
from sqlite_utils.migrations import Migrations

from quakegrid.errors import QuakeGridError
from services.dbserver import database, faults

MIGRATIONS = Migrations("quakegrid-dbserver")

_UPSTREAM_SCRIPTS = (
    ("0000", "base_schema"),
    ("0001", "job"),
    ("0003", "output"),
    ("0004", "job"),
    ("0005", "index"),
    ("0006", "checksum"),
    ("0007", "job"),
    ("0008", "job-tag"),
    ("0009", "workflow"),
    ("0010", "job-tag"),
)
_UPSTREAM_TABLES = (
    """CREATE TABLE job(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     description TEXT NOT NULL,
     user_name TEXT NOT NULL,
     calculation_mode TEXT NOT NULL,
     hazard_calculation_id INTEGER REFERENCES job (id) ON DELETE CASCADE,
     status TEXT NOT NULL DEFAULT 'created',
     is_running BOOL NOT NULL DEFAULT 1,
     start_time TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
     stop_time TIMESTAMP,
     relevant BOOL NOT NULL DEFAULT 1,
     ds_calc_dir TEXT NOT NULL,
     pid INTEGER NOT NULL DEFAULT 0,
     size_mb FLOAT,
     host TEXT,
     workflow_id INTEGER REFERENCES job (id) ON DELETE CASCADE)""",
    """CREATE TABLE log(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
     timestamp TIMESTAMP NOT NULL,
     level TEXT NOT NULL,
     process TEXT NOT NULL,
     message TEXT NOT NULL)""",
    """CREATE TABLE output(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     oq_job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
     display_name TEXT NOT NULL,
     last_update TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
     ds_key TEXT NOT NULL,
     size_mb FLOAT)""",
    """CREATE TABLE performance(
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     job_id INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
     operation TEXT NOT NULL,
     time_sec FLOAT NOT NULL,
     memory_mb FLOAT NOT NULL,
     counts INTEGER NOT NULL)""",
    """CREATE TABLE checksum(
     job_id INTEGER PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
     hazard_checksum INTEGER NOT NULL UNIQUE)""",
    """CREATE TABLE tag (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     name TEXT NOT NULL UNIQUE CHECK (LENGTH(name) > 0))""",
    """CREATE TABLE job_tag (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     job_id INTEGER NOT NULL,
     tag_id INTEGER NOT NULL,
     is_preferred INTEGER NOT NULL DEFAULT 0 CHECK (is_preferred IN (0, 1)),
     UNIQUE (job_id, tag_id),
     FOREIGN KEY (job_id) REFERENCES job(id) ON DELETE CASCADE,
     FOREIGN KEY (tag_id) REFERENCES tag(id) ON DELETE CASCADE)""",
    "CREATE INDEX log_job_id on log (job_id)",
    "CREATE INDEX performance_job_id on performance (job_id)",
    "CREATE INDEX output_job_id on output (oq_job_id)",
    "CREATE UNIQUE INDEX uq_preferred_per_tag ON job_tag(tag_id) WHERE is_preferred = 1",
    """CREATE TABLE revision_info(
     version TEXT PRIMARY KEY,
     scriptname TEXT NOT NULL,
     executed TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)""",
)


@MIGRATIONS(name="0001_upstream_tables")  # type: ignore[untyped-decorator]
def _upstream_tables(db: Any) -> None:
    for statement in _UPSTREAM_TABLES:
        db.execute(statement)
    for script in _UPSTREAM_SCRIPTS:
        db.execute("INSERT INTO revision_info (version, scriptname) VALUES (?, ?)", script)


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
    """Create the file and its tables, or bring those of an older QuakeGrid up to date.

    Raises:
        QuakeGridError: the file holds other tables or a newer QuakeGrid's, is damaged or not writable.
    """
    try:
        if path.exists() and path.stat().st_size:
            _check_origin(path)
        connection = database.connect_writer(path)
        try:
            MIGRATIONS.apply(sqlite_utils.Database(connection))
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise faults.from_sqlite(exc, path) from exc


def _check_origin(path: Path) -> None:
    wal = path.with_name(f"{path.name}-wal")
    has_wal = wal.exists() and wal.stat().st_size > 0
    connection = database.connect_reader(path, is_immutable=not has_wal)
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        applied: set[str] = set()
        if MIGRATIONS.migrations_table in tables:
            query = "SELECT name FROM _sqlite_migrations WHERE migration_set=?"
            applied = {name for (name,) in connection.execute(query, [MIGRATIONS.name])}
    finally:
        connection.close()
    if tables - {MIGRATIONS.migrations_table} and not applied:
        raise QuakeGridError(
            f"{path} was not made by QuakeGrid and is left as it is; set [dbserver] file in openquake.cfg "
            "to a new file"
        )
    known = {migration.name for migration in MIGRATIONS._migrations}  # noqa: SLF001  no other way to list them
    if applied - known:
        raise QuakeGridError(
            f"{path} was made by a newer QuakeGrid; install that one, or give another [dbserver] file"
        )
