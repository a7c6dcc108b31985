"""The first import of the engine, which reads its configuration meanwhile: not from files with an authkey.

The engine parses `openquake.cfg` of its environment and of the user when `openquake.baselib` is imported.
In a template that would put the authkey into memory that all drivers and workers inherit.
"""

from __future__ import annotations

import configparser
import importlib
from collections.abc import Iterable
from typing import Any


def import_baselib(allowed: Iterable[str]) -> None:
    """Import `openquake.baselib` so that it reads these files and its own only.

    Raises:
        Exception: whatever its import raises.
    """
    names, parsers = frozenset(allowed), configparser.RawConfigParser
    read = parsers.read

    def read_allowed(parser: Any, paths: Any, encoding: str | None = None) -> list[str]:
        own, *others = [paths] if isinstance(paths, str) else paths
        return read(parser, [own, *(path for path in others if path in names)], encoding)

    parsers.read = read_allowed  # type: ignore[method-assign, assignment]
    try:
        importlib.import_module("openquake.baselib")
    finally:
        parsers.read = read  # type: ignore[method-assign]
