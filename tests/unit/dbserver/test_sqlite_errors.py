"""What people are told when SQLite fails."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.services.dbserver.store import sqlite_errors
from quakegrid.services.dbserver.store.sqlite_errors import DiskFaultError, DiskFullError


def sqlite_error(code: int, name: str = "") -> sqlite3.Error:
    """As Python's module raises it."""
    exc = sqlite3.OperationalError("words")
    exc.sqlite_errorcode = code
    exc.sqlite_errorname = name
    return exc


@pytest.mark.parametrize(
    ("code", "name", "kind", "words"),
    [
        (sqlite3.SQLITE_FULL, "SQLITE_FULL", DiskFullError, "free space"),
        (
            sqlite3.SQLITE_IOERR_READ,
            "SQLITE_IOERR_READ",
            DiskFaultError,
            r"cannot read /x.*dmesg",
        ),
        (
            sqlite3.SQLITE_IOERR_FSYNC,
            "SQLITE_IOERR_FSYNC",
            DiskFaultError,
            "cannot write to /x",
        ),
        (sqlite3.SQLITE_NOMEM, "SQLITE_NOMEM", errors.QuakeGridError, "no memory"),
        (sqlite3.SQLITE_INTERRUPT, "SQLITE_INTERRUPT", errors.PeerUnreachableError, "interrupted"),
        (sqlite3.SQLITE_ERROR, "SQLITE_ERROR", errors.UsageError, "refuses the SQL"),
    ],
)
def test_sqlite_errors_name_their_cause(code: int, name: str, kind: type[Exception], words: str) -> None:
    """A failing disk is not a full one, and neither it nor missing memory is the fault of the SQL."""
    error = sqlite_errors.from_sqlite(sqlite_error(code, name), Path("/x"))

    assert type(error) is kind
    with pytest.raises(kind, match=words):
        raise error
