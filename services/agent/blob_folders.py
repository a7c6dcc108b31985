"""Where a node keeps blobs: a folder a session in shared memory, gone with the session's last worker.

What a killed agent left is removed when the next one of the same state directory starts.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from quakegrid import shared_memory

log = logging.getLogger("quakegrid.agent")


class BlobFolders:
    """The folders of one agent.

    Args:
        state_dir: of the cluster on this machine; it names the folder, so that agents do not meet.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir

    def open(self, session_id: int) -> Path:
        """The folder of a session, made if need be."""
        shared_memory.folder(self._state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
        root = shared_memory.folder(self._state_dir)  # another, if somebody took the name meanwhile
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = root / str(session_id)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def remove(self, session_id: int) -> None:
        """Free a session's blobs; workers that still map them keep their pages."""
        folder = shared_memory.folder(self._state_dir) / str(session_id)
        # Renamed first: its driver may be writing there.
        leaving = folder.with_suffix(f".{os.getpid()}")
        try:
            folder.rename(leaving)
        except FileNotFoundError:
            return
        _remove(leaving)

    def clear(self) -> None:
        """Free all blobs."""
        _remove(shared_memory.folder(self._state_dir))


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as exc:
        log.warning("blobs_not_removed folder=%s reason=%s", folder, exc)
