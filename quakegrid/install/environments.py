"""Whether services, and root, can rely on the environment that QuakeGrid is installed in.

Root's commands and all services run programs from it. So only root may change it, and every user must be able
to read it.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from quakegrid.errors import UsageError

_WAY_OUT = "install QuakeGrid where only root writes and all may read: `make install-system` does, below /opt"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on the way to the environment."""

    path: Path
    mode: int
    uid: int
    gid: int


def look(venv: Path) -> list[Folder]:
    """The environment's folder, and all above it."""
    place = venv.resolve()
    found = ((path, path.stat()) for path in (place, *place.parents))
    return [Folder(path, facts.st_mode, facts.st_uid, facts.st_gid) for path, facts in found]


def check(folders: Sequence[Folder]) -> None:
    """Refuse an environment that others can change, or that the services' user cannot get to.

    Raises:
        UsageError: with the folder, and what to do.
    """
    for folder in folders:
        if not folder.mode & stat.S_IXOTH:
            raise UsageError(f"the services' user cannot enter {folder.path}; {_WAY_OUT}")
        if folder.uid or _is_open(folder):
            raise UsageError(
                f"others than root can change {folder.path}, and so what root and all services run; "
                f"{_WAY_OUT}"
            )


def _is_open(folder: Folder) -> bool:
    if folder.mode & stat.S_ISVTX:  # as /tmp: users cannot remove each other's files
        return False
    return bool(folder.mode & stat.S_IWOTH or (folder.gid and folder.mode & stat.S_IWGRP))
