"""Which files that hold an authkey are open to others than the services and their group."""

from __future__ import annotations

import configparser
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from quakegrid.settings import authkeys
from quakegrid.settings.config import ALLOW_WIDE_KEY, WEAK_AUTHKEYS


def too_wide(paths: Iterable[Path]) -> tuple[str, ...]:
    """The files that hold a key and that others may read or change, each with its mode.

    None where the environment says that there are no others, see `config.ALLOW_WIDE_KEY`.
    """
    if os.environ.get(ALLOW_WIDE_KEY):
        return ()
    return tuple(found for path in paths if (found := _look(path)))


def _look(path: Path) -> str:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        mode = path.stat().st_mode
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):  # not there, or the check of settings tells
        return ""
    key = parser.get("dbserver", "authkey", fallback="").strip()
    is_closed = not authkeys.too_wide(path, os.getegid())
    if is_closed or not key or key in WEAK_AUTHKEYS:
        return ""
    return f"{path} (mode {stat.S_IMODE(mode):04o})"
