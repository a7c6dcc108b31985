"""Which files that hold an authkey are open to every user of the machine."""

from __future__ import annotations

import configparser
import stat
from collections.abc import Iterable
from pathlib import Path

from quakegrid.config import WEAK_AUTHKEYS

OPEN_TO_ALL = stat.S_IROTH | stat.S_IWOTH


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
    is_closed = not mode & OPEN_TO_ALL or not _is_reachable(path)
    if is_closed or not key or key in WEAK_AUTHKEYS:
        return ""
    return f"{path} (mode {stat.S_IMODE(mode):04o})"


def _is_reachable(path: Path) -> bool:
    """Whether every user may enter all folders on the way to a file."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)
