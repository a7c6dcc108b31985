"""Search in texts in any case of letters, also outside ASCII, where SQLite's own functions see no case."""

from __future__ import annotations

import sqlite3
import unicodedata


def fold(text: object) -> str:
    """A text in a form in which texts that differ only in case are equal: "ZÜRICH" as "Zürich"."""
    plain = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return unicodedata.normalize("NFC", plain).casefold()


def register(connection: sqlite3.Connection) -> None:
    """Make `quakegrid_fold(text)` a function of SQL on a connection."""
    connection.create_function("quakegrid_fold", 1, fold, deterministic=True)
