"""Turns errors of SQLite into ours. Every message names the file and what to do.

The dbserver goes on after each of these errors.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from quakegrid import errors


class DiskFullError(errors.QuakeGridError):
    """The database file cannot grow."""

    reason = "DISK_FULL"


class DiskFaultError(errors.QuakeGridError):
    """The disk of the database file does not read or write."""

    reason = "DISK_FAULT"


class DatabaseBusyError(errors.QuakeGridError):
    """Another process holds the database's write lock."""

    reason = "DATABASE_BUSY"


class DatabaseDamagedError(errors.QuakeGridError):
    """The file is no SQLite database, or is damaged."""

    reason = "DATABASE_DAMAGED"


class ForbiddenSqlError(errors.QuakeGridError):
    """SQL that would write, on a connection that only reads."""

    reason = "FORBIDDEN_SQL"


def from_sqlite(exc: sqlite3.Error, path: Path) -> errors.QuakeGridError:
    """Our error for an error of SQLite on the database file `path`."""
    primary = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if str(exc) == "not authorized":  # SQLite's parser reports some refusals as plain errors
        primary = sqlite3.SQLITE_AUTH
    match primary:
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR | sqlite3.SQLITE_NOMEM | sqlite3.SQLITE_INTERRUPT:
            return _machine_error(exc, primary, path)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return errors.StateError(
                f"cannot write to {path}: {exc}; make the file and its directory writable for this user"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return DatabaseBusyError(
                f"another process holds {path}: {exc}; only the dbserver may have it open"
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return damaged(path, str(exc))
        case sqlite3.SQLITE_AUTH:
            return ForbiddenSqlError(
                "SQL from outside may only read: give one SELECT, or a PRAGMA that informs"
            )
        case sqlite3.SQLITE_CONSTRAINT:
            return errors.StateError(f"{path.name} refuses the change: {exc}")
        case _:
            return errors.UsageError(f"{path.name} refuses the SQL or its arguments: {exc}")


def _machine_error(exc: sqlite3.Error, primary: int, path: Path) -> errors.QuakeGridError:
    """The error for a cause outside of the file and the SQL: the disk, the memory, or an interrupt."""
    if primary == sqlite3.SQLITE_FULL:
        text = f"cannot write to {path}: {exc}; free space on its disk (or raise the quota) and try again"
        return DiskFullError(text)
    if primary == sqlite3.SQLITE_NOMEM:
        return errors.QuakeGridError(f"the dbserver has no memory for the request ({exc}); ask for less")
    if primary == sqlite3.SQLITE_INTERRUPT:
        return errors.PeerUnreachableError("the query was interrupted")
    name = getattr(exc, "sqlite_errorname", "SQLITE_IOERR")
    return DiskFaultError(
        f"cannot {'read' if 'READ' in name else 'write to'} {path}: {exc} ({name}); look for errors of the "
        "disk (`dmesg`), and free space on it if it is full or over its quota"
    )


def damaged(path: Path, reason: str) -> DatabaseDamagedError:
    """The error for a damaged file, with the remedy."""
    return DatabaseDamagedError(
        f"{path} is damaged or no SQLite database: {' '.join(reason.split())}; restore a "
        "copy that `quakegrid db backup` made (`quakegrid db restore COPY`), or save what can be read with "
        f"`sqlite3 {path} .recover | sqlite3 NEWFILE`"
    )
