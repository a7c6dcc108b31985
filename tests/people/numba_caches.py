"""Compiled kernels of the engine for an account of a machine: compiling them takes more than a minute."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from numba.core import caching


def copy(target: Path) -> int:
    """Copy the kernels beside the engine's sources into a folder for NUMBA_CACHE_DIR; returns how many."""
    found = importlib.util.find_spec("openquake.hazardlib")
    assert found is not None
    assert found.origin is not None
    count = 0
    for path in Path(found.origin).parents[1].rglob("__pycache__/*.nb[ic]"):
        source = str(path.parents[1] / "any.py")
        folder = target / caching._CacheLocator.get_suitable_cache_subpath(source)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
        count += 1
    return count
