"""Where a node keeps blobs: a folder a session in shared memory, gone with the session's last worker.

What an agent left that was killed is removed by its template, which outlives it by a moment; if that was
killed, too, by the next agent of this user on the machine, whatever its state directory. A lock on the folder
tells that its agent lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
from pathlib import Path

from quakegrid.blobs import shared_memory

log = logging.getLogger("quakegrid.agent")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class BlobFolders:
    """The folders of one agent.

    Args:
        state_dir: of the cluster on this machine; it names the folder, so that agents do not meet.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock_fd = -1

    def open(self, session_id: int) -> Path:
        """The folder of a session, made if need be."""
        folder = self._hold() / str(session_id)
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
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _hold(self) -> Path:
        """The folder of all sessions, made and locked unless it is."""
        while True:
            shared_memory.folder(self._state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
            root = shared_memory.folder(self._state_dir)  # another, if somebody took the name meanwhile
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock_fd >= 0 and _is_open(self._lock_fd, root):
                return root
            self._lock(root)

    def _lock(self, root: Path) -> None:
        """Lock the folder; somebody who found it without a lock may have removed it meanwhile."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        try:
            self._lock_fd = os.open(root, _DIRECTORY)
        except FileNotFoundError:
            return
        fcntl.flock(self._lock_fd, fcntl.LOCK_SH)


def remove_abandoned() -> None:
    """Free the blobs of this user's agents that live no more."""
    for folder in shared_memory.folders():
        with contextlib.suppress(FileNotFoundError):  # its agent was quicker
            _remove_abandoned(folder)


def _remove_abandoned(folder: Path) -> None:
    fd = os.open(folder, _DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log.warning("abandoned_blobs_removed folder=%s", folder)
        _remove(folder)
    except BlockingIOError:  # its agent lives
        return
    finally:
        os.close(fd)


def _is_open(fd: int, path: Path) -> bool:
    """Whether the descriptor is that of what has this name now."""
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as exc:
        log.warning("blobs_not_removed folder=%s reason=%s", folder, exc)
