"""The database file and the files beside it: rights, write-ahead log, leftovers, and the stamp of a file.

A write-ahead log (`-wal`) does not name its database file. SQLite would apply the log of a database to a
backup that was put in its place, and damage it. So each start of the dbserver stamps the file, in SQLite's
header (`application_id`), and writes the stamp into the lock file; a copy gets a stamp of its own. A log
beside a file with another stamp than the last start's belongs to another file.
"""

from __future__ import annotations

import datetime
import itertools
import logging
import os
import secrets
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import TextIO

from quakegrid.errors import QuakeGridError

# Where SQLite keeps `application_id`, four bytes, in the file's first page.
_STAMP_OFFSET = 68
_STAMP_BITS = 31
# How the names of unfinished copies go on behind the file's name; no person would choose such a name.
BACKUP_FOLDER = ".quakegrid-backup-"
RESTORED_COPY = ".quakegrid-restored"
_LEFTOVERS = (".before-quakegrid-*.part", f"{BACKUP_FOLDER}*", f"{RESTORED_COPY}*")
logger = logging.getLogger("dbserver")


def create_private(path: Path) -> None:
    """Make an empty file that only its owner can read. A file that exists keeps its rights, with a warning.

    SQLite gives the write-ahead log the rights of the file. A link may lead to where there is no file yet.

    Raises:
        QuakeGridError: the folder cannot be written, or there is none.
    """
    path = Path(os.path.realpath(path))
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & path.parent.stat().st_mode & 0o077:
            logger.warning(
                "database_readable_by_others file=%s mode=%03o fix=%s", path, mode, f"chmod 600 {path}*"
            )
    except OSError as exc:
        raise QuakeGridError(
            f"cannot write in {path.parent}: {exc.strerror}; make it writable or set [dbserver] file"
        ) from exc


def beside(path: Path, suffix: str) -> Path:
    """A file with the same name and something behind it, such as `-wal`."""
    return path.with_name(f"{path.name}{suffix}")


def free_name(path: Path, what: str) -> Path:
    """A free name beside the file, with the purpose of the new file and today's date."""
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    first = beside(path, f".{what}-{date}")
    names = itertools.chain([first], (beside(first, f"-{number}") for number in itertools.count(2)))
    return next(name for name in names if not name.exists())


def remove_leftovers(path: Path) -> None:
    """Remove copies that killed processes left unfinished. Only the holder of the lock may do that."""
    for pattern in _LEFTOVERS:
        for leftover in path.parent.glob(f"{path.name}{pattern}"):
            logger.warning("leftover_removed path=%s", leftover)
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def has_wal(path: Path) -> bool:
    """Whether there is a write-ahead log with something in it."""
    wal = beside(path, "-wal")
    return wal.exists() and wal.stat().st_size > 0


def check_wal(path: Path) -> None:
    """Refuse a write-ahead log that belongs to another file.

    Raises:
        QuakeGridError: the file was replaced or is gone, and the log of the old one is still there.
    """
    if not has_wal(path):
        return
    if not path.exists() or not path.stat().st_size:
        raise QuakeGridError(
            f"{path} is not there, but {path.name}-wal is, with its last changes; put both where they "
            f"were, or remove {path}-wal to begin with an empty database"
        )
    stamps = _stored_stamps(path)
    if not stamps or _stamp_of(path) in stamps:
        return
    raise QuakeGridError(
        f"{path} was replaced, but {path.name}-wal belongs to the file that was there before. If {path.name} "
        f"is a backup, remove {path}-wal and {path}-shm and start again; `quakegrid db restore` does it all"
    )


def renew_stamp(path: Path, connection: sqlite3.Connection) -> None:
    """Give the file a new stamp, and store it in the lock file.

    The connection is the only one of the file, and is closed next.

    Whenever this is interrupted, the lock file has the stamp of the file.
    """
    old, new = _stamp_of(path), _new_stamp()
    _store_stamps(path, [new] if old is None else [old, new])
    try:
        stamp(connection, new)
    except sqlite3.OperationalError as exc:
        if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_FULL:
            raise
        logger.warning("stamp_not_renewed reason=%s", exc)
        return
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if _stamp_of(path) == new:  # else somebody reads; then both are right
        _store_stamps(path, [new])


def stamp(connection: sqlite3.Connection, value: int | None = None) -> None:
    """Give a file a stamp, a new one if none is given: what makes it another file than the one it was."""
    connection.execute(f"PRAGMA application_id = {_new_stamp() if value is None else value}")


def _new_stamp() -> int:
    return secrets.randbits(_STAMP_BITS) | 1  # never 0, which all other files have


def _stamp_of(path: Path) -> int | None:
    """The stamp in the file itself, whatever its log says; None if the file is empty."""
    with path.open("rb") as file:
        file.seek(_STAMP_OFFSET)
        data = file.read(4)
    return int.from_bytes(data, "big") if len(data) == 4 else None


def _stored_stamps(path: Path) -> set[int]:
    try:
        _, *stamps = beside(path, ".lock").read_text(encoding="utf-8").splitlines() or [""]
    except FileNotFoundError:
        return set()
    return {int(text) for text in stamps if text.isdecimal()}


def _store_stamps(path: Path, stamps: list[int]) -> None:
    with open_lock_file(path) as file:
        write_lock_file(file, file.readline().strip(), [str(each) for each in stamps])
        os.fsync(file.fileno())


def open_lock_file(path: Path) -> TextIO:
    """The file beside a database that says which process serves it, and which stamps it has."""
    descriptor = os.open(beside(path, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "r+", encoding="utf-8")


def write_lock_file(file: TextIO, process: str, stamps: list[str]) -> None:
    """Fill it, in place, so that a full disk does not matter."""
    file.seek(0)
    file.write("\n".join([process, *stamps, ""]))
    file.truncate()
    file.flush()
