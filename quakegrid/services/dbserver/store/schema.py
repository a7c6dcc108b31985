"""The database file at the start: one dbserver locks it, and its tables are brought up to date."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import TextIO

from quakegrid.errors import QuakeGridError
from quakegrid.services.dbserver.store import adoption, connections, files, migrations, sqlite_errors


def lock_database(path: Path) -> TextIO:
    """Take the lock that makes this process the file's only server. Close the result to release the lock.

    Raises:
        QuakeGridError: another dbserver has it, or the directory cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = files.open_lock_file(path)
    except OSError as exc:
        raise QuakeGridError(
            f"cannot write in {path.parent}: {exc.strerror}; make it writable or set [dbserver] file"
        ) from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = lock.readline().strip() or "unknown"
        lock.close()
        raise QuakeGridError(
            f"another dbserver (process {pid}) serves {path}; stop it with `quakegrid down`, "
            "or set another [dbserver] file in openquake.cfg"
        ) from None
    _, *stamps = lock.read().split() or [""]
    files.write_lock_file(lock, str(os.getpid()), stamps)
    return lock


def prepare_database(path: Path) -> None:
    """Create the file and its tables, or bring those of an older QuakeGrid or of OpenQuake up to date.

    Raises:
        QuakeGridError: the file holds other tables or newer ones, is damaged, in use or not writable, or
            there is a write-ahead log beside it that belongs to another file.
    """
    files.remove_leftovers(path)
    files.check_wal(path)
    try:
        if path.exists() and path.stat().st_size:
            if adoption.find_origin(path, migrations.known()) is adoption.Origin.OPENQUAKE:
                adoption.adopt(path)
            adoption.check_health(path)
        files.create_private(path)
        connection = connections.connect_writer(path)
        try:
            migrations.apply(connection)
            files.renew_stamp(path, connection)
        finally:
            connection.close()
    except sqlite3.Error as exc:
        raise sqlite_errors.from_sqlite(exc, path) from exc
