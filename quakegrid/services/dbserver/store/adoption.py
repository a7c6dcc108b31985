"""Finds out which program made a database file and whether it is damaged, and takes over files of OpenQuake.

This module only reads files. A file of OpenQuake is copied beside itself before the migrations change it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from quakegrid.errors import QuakeGridError
from quakegrid.services.dbserver.store import connections, files, sqlite_errors, upstream_tables

# A check reads the file. This much takes about a second, which a start may take.
WHOLE_CHECK_BYTES = 256 << 20
# How long to wait for another process that uses a file to take over.
ADOPTION_TIMEOUT_S = 2.0
logger = logging.getLogger("dbserver")


class Origin(Enum):
    """Who made a file."""

    QUAKEGRID = "QuakeGrid"
    OPENQUAKE = "OpenQuake"


@dataclass(frozen=True, slots=True)
class Migrations:
    """Our migrations: the name of the set, the table in which a file lists them, and all their names."""

    name: str
    table: str
    known: frozenset[str]


def find_origin(path: Path, migrations: Migrations, told_as: Path | None = None) -> Origin:
    """Who made the file, which is only read.

    Args:
        path: of the file.
        migrations: ours.
        told_as: how errors name the file, if not by its path.
    Raises:
        QuakeGridError: another program made it, or a version that we do not know.
    """
    connection = _connect_quietly(path)
    name = told_as or path
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")}
        applied: set[str] = set()
        if migrations.table in tables:
            query = f"SELECT name FROM {migrations.table} WHERE migration_set=?"  # noqa: S608  a constant
            applied = {name for (name,) in connection.execute(query, [migrations.name])}
        is_new = not tables - {migrations.table, "sqlite_sequence"}
        if applied and "revision_info" in tables:
            upstream_tables.check_not_newer(connection, str(name))
        if not applied and {"job", "log", "output", "revision_info"} <= tables:
            upstream_tables.check_adoptable(connection, str(name))
            return Origin.OPENQUAKE
    finally:
        connection.close()
    if not applied and not is_new:
        raise QuakeGridError(
            f"{name} was made neither by QuakeGrid nor by OpenQuake and is left as it is; "
            "set [dbserver] file in openquake.cfg to a new file"
        )
    if applied - migrations.known:
        raise QuakeGridError(
            f"{name} was made by a newer QuakeGrid; install that one, or give another [dbserver] file"
        )
    return Origin.QUAKEGRID


def _connect_quietly(path: Path) -> sqlite3.Connection:
    """A reading connection, which creates no file beside the database if there is no write-ahead log."""
    return connections.connect_reader(path, is_immutable=not files.has_wal(path))


def adopt(path: Path) -> None:
    """Copy the file beside itself before the migrations change it.

    Raises:
        QuakeGridError: upstream's dbserver has it open, or the copy failed.
    """
    connection = sqlite3.connect(path, isolation_level=None, timeout=ADOPTION_TIMEOUT_S)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")  # fails if another process has the file open
        connection.execute("ROLLBACK")
        check(connection, path, "PRAGMA quick_check")
        copy_path = files.free_name(path, "before-quakegrid")
        partial_path = copy_path.with_name(f"{copy_path.name}.part")
        files.create_private(partial_path)
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


def check_health(path: Path) -> None:
    """Look for damage before anything is written. Large log tables are only checked by `quakegrid db check`.

    Raises:
        DatabaseDamagedError: the file is damaged.
    """
    connection = _connect_quietly(path)
    try:
        if path.stat().st_size <= WHOLE_CHECK_BYTES:
            check(connection, path, "PRAGMA quick_check")
            return
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type='table' AND name NOT IN ('log', 'performance') "
            "AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        for (name,) in tables:
            check(connection, path, f'PRAGMA quick_check("{name}")')
    finally:
        connection.close()


def check(connection: sqlite3.Connection, path: Path, pragma: str) -> None:
    """Run a check of SQLite.

    Raises:
        DatabaseDamagedError: the check finds damage; the message names `path`.
    """
    problems = [text for (text,) in connection.execute(pragma)]
    if problems != ["ok"]:
        raise sqlite_errors.damaged(path, problems[0])
