"""When the database was copied as a whole for the last time, and how large the copy was.

Stands in a small file beside the database, and so outlives a restore of an older copy.
"""

from __future__ import annotations

import datetime
import json
import logging
from pathlib import Path
from typing import NamedTuple

from quakegrid.services.dbserver.store import files

_SUFFIX = ".last-copy"
_MOST_BYTES = 1000
logger = logging.getLogger("dbserver")


class LastBackup(NamedTuple):
    """A copy that was sent as a whole; `time` is aware."""

    time: datetime.datetime
    size_bytes: int


def note(database: Path, size_bytes: int) -> None:
    """Note that a copy was sent just now; a disk that is full costs only the note."""
    path = files.beside(database, _SUFFIX)
    partial = files.beside(path, ".part")
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    try:
        partial.write_text(json.dumps({"time": time, "bytes": size_bytes}))
        partial.replace(path)
    except OSError as exc:
        logger.warning("backup_not_noted path=%s reason=%s", path, exc)


def last(database: Path) -> LastBackup | None:
    """The last copy that was sent; None if that is not known."""
    try:
        with files.beside(database, _SUFFIX).open("rb") as file:
            found = json.loads(file.read(_MOST_BYTES))
        time = datetime.datetime.fromisoformat(found["time"])
        return LastBackup(time.astimezone(datetime.UTC), int(found["bytes"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
