"""Compiled kernels of the engine, for machines on which it was just installed.

Each of four machines would compile them for minutes. What this computer has compiled counts there if the
sources have the same times.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from numba.core import caching

# For NUMBA_CACHE_DIR; everybody on the machine may add to it.
FOLDER = Path("/srv/kernels")
_OPEN = 0o1777


def give(root: Path, venv: Path) -> int:
    """Give a machine the kernels that are beside this interpreter's engine; how many files.

    Args:
        root: of the machine, as seen from here.
        venv: the environment that was made there.
    """
    inside = root / FOLDER.relative_to("/")
    inside.mkdir(exist_ok=True)
    inside.chmod(_OPEN)
    count = 0
    for path in Path(sys.prefix, "lib").rglob("__pycache__/*.nb[ic]"):
        source = path.parents[1] / f"{path.name.partition('.')[0]}.py"
        there = venv / source.relative_to(sys.prefix)
        if not source.is_file() or not (root / there.relative_to("/")).is_file():
            continue
        found = source.stat()
        os.utime(root / there.relative_to("/"), ns=(found.st_atime_ns, found.st_mtime_ns))
        folder = inside / caching._CacheLocator.get_suitable_cache_subpath(str(there))
        folder.mkdir(exist_ok=True)
        folder.chmod(_OPEN)
        shutil.copy(path, folder)
        (folder / path.name).chmod(0o666)
        count += 1
    return count
