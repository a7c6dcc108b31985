"""Where a node keeps blobs: a folder a session in shared memory, gone with the session's last worker.

What a killed agent left is removed when the next one of the same state directory starts.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
from pathlib import Path

log = logging.getLogger("quakegrid.agent")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - our own folder there is checked


class BlobFolders:
    """The folders of one agent.

    Args:
        state_dir: of the cluster on this machine; it names the folder, so that agents do not meet.
    """

    def __init__(self, state_dir: Path) -> None:
        name = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
        self._root = SHARED_MEMORY / f"quakegrid-{os.getuid()}-{name}"
        if not _is_ours(self._root):
            self._root = state_dir / "run" / "blobs"

    def open(self, session_id: int) -> Path:
        """The folder of a session, made if need be."""
        folder = self._root / str(session_id)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def remove(self, session_id: int) -> None:
        """Free a session's blobs; workers that still map them keep their pages."""
        _remove(self._root / str(session_id))

    def clear(self) -> None:
        """Free all blobs."""
        _remove(self._root)


def _is_ours(root: Path) -> bool:
    """Whether we may use a name that anybody on this machine could have taken."""
    try:
        root.mkdir(mode=0o700)
    except FileExistsError:
        found = root.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    except OSError:  # no shared memory here
        return False
    return True


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as exc:
        log.warning("blobs_not_removed folder=%s reason=%s", folder, exc)
