"""Which files that hold an authkey are open to every user of the machine."""

from __future__ import annotations

import configparser
import stat
from collections.abc import Iterable
from pathlib import Path

from quakegrid.settings import authkeys
from quakegrid.settings.config import WEAK_AUTHKEYS


def open_to_all(paths: Iterable[Path]) -> tuple[str, ...]:
    """The files that hold a key and that others may read or change, each with its mode."""
    return tuple(found for path in paths if (found := _look(path)))


def _look(path: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        mode = path.stat().st_mode
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):  # not there, or the check of settings tells
        return ""
    key = parser.get("dbserver", "authkey", fallback="").strip()
    is_closed = not authkeys.is_open_to_all(path)
    if is_closed or not key or key in WEAK_AUTHKEYS:
        return ""
    return f"{path} (mode {stat.S_IMODE(mode):04o})"
