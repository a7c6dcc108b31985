"""sqlite-utils without pandas and numpy.

sqlite-utils imports both if they are installed, as they are with the engine. They cost half a second and 50
MB, and the dbserver needs neither.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import cast

_HEAVY = ("numpy", "pandas")


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Have modules that were not imported yet look as if they were not installed."""
    hidden = [name for name in names if name not in sys.modules]
    modules = cast("dict[str, None]", sys.modules)
    modules.update(dict.fromkeys(hidden))  # importing them is an ImportError
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _hidden(*_HEAVY):
    import sqlite_utils
    from sqlite_utils.migrations import Migrations

__all__ = ["Migrations", "sqlite_utils"]
