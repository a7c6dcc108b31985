"""Removes what workers and drivers leave on this node: blobs and temporary files.

Blobs are in shared memory, in a folder for each session, which is removed when the last worker of the
session has ended. When an agent is killed, its template, which outlives it by a moment, removes the blobs. If
the template was killed, too, the next agent of this user on the machine removes them, whatever its state
directory: a lock on the folder tells whether the agent of the folder lives. Temporary files of processes
whose agent was killed are removed by the next agent of the same state directory, before it starts processes.
What the processes of other users leave is in folders of theirs, see `persons/person_folders.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from quakegrid.blobs import shared_memory
from quakegrid.machine import temporary_folders
from quakegrid.services.agent.linux.user_rights import NO_RIGHTS, UserRights
from quakegrid.services.agent.node.persons.person_folders import PersonFolders
from quakegrid.services.agent.rules.persons import Account

log = logging.getLogger("quakegrid.agent")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class BlobFolders:
    """The folders of one agent for blobs.

    Args:
        state_dir: of the cluster on this machine; each state directory has a folder of its own.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock_fd = -1

    def open(self, session_id: int) -> Path:
        """The folder of a session; made if it does not exist."""
        folder = self._hold() / str(session_id)
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def remove(self, session_id: int) -> None:
        """Remove a session's blobs. Workers that still map them keep the memory until they end."""
        folder = shared_memory.folder(self._state_dir) / str(session_id)
        # Renamed first, since the session's driver may be writing there.
        leaving = folder.with_suffix(f".{os.getpid()}")
        try:
            folder.rename(leaving)
        except FileNotFoundError:
            return
        _remove(leaving)

    def clear(self) -> None:
        """Remove all blobs."""
        _remove(shared_memory.folder(self._state_dir))
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _hold(self) -> Path:
        """The folder of all sessions; made and locked if that is not done yet."""
        while True:
            shared_memory.folder(self._state_dir).mkdir(mode=0o700, parents=True, exist_ok=True)
            root = shared_memory.folder(self._state_dir)  # another name if somebody has taken this one
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._lock_fd >= 0 and _is_open(self._lock_fd, root):
                return root
            self._lock(root)

    def _lock(self, root: Path) -> None:
        """Lock the folder. Another agent that found it without a lock may have removed it meanwhile."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1
        try:
            self._lock_fd = os.open(root, _DIRECTORY)
        except FileNotFoundError:
            return
        fcntl.flock(self._lock_fd, fcntl.LOCK_SH)


class FolderLeftovers:
    """Removes the temporary files of one agent's processes.

    Args:
        state_dir: of the cluster on this machine.
        rights: of this process over other users.
    """

    def __init__(self, state_dir: Path, rights: UserRights = NO_RIGHTS) -> None:
        self._state_dir, self._rights = state_dir, rights
        self.persons = PersonFolders(state_dir, rights)
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._removing = threading.Lock()  # two threads that remove the same files would hinder each other

    def clear(self) -> None:
        """Remove all temporary files; call it while no worker and no driver of this state directory runs."""
        clear_persons(self._state_dir, self._rights)
        BlobFolders(self._state_dir).clear()
        for pid in temporary_folders.pids(self._state_dir):
            self._remove(partial(temporary_folders.remove, self._state_dir, pid))
        if others := temporary_folders.foreign(self._state_dir):
            log.warning("temporary_files_of_other_hosts_left links=%s", ",".join(others))

    def clear_within(self, timeout_s: float) -> None:
        """Do as `clear`, but wait only so long. The next agent removes what is left."""
        thread = threading.Thread(target=self.clear, name="last folders", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if thread.is_alive():
            log.warning("folders_left reason=%s", f"not removed within {timeout_s:g} s")

    def remove_of(self, pid: int, account: Account | None = None) -> None:
        """Remove the temporary files of a process that has ended, of an account or of the agent's own.

        This runs in a thread, since there may be many gigabytes. The thread is no other's, so that a file
        server that does not answer delays nothing else, not even the end of the agent.
        """
        if account is None:
            self._put(partial(temporary_folders.remove, self._state_dir, pid))
        else:
            self._put(partial(self.persons.remove_temporary, account, pid))

    def remove_session(self, account: Account, session_id: int) -> None:
        """Remove the blobs of a session, in the same thread."""
        if folder := self.persons.retire_session(account, session_id):
            self._put(partial(self.persons.remove, account, folder))

    def _put(self, remove: Callable[[], None]) -> None:
        self._waiting.put(remove)
        if self._thread is None:
            self._thread = threading.Thread(target=self._remove_waiting, name="folders", daemon=True)
            self._thread.start()

    def _remove_waiting(self) -> None:
        while True:
            self._remove(self._waiting.get())

    def _remove(self, remove: Callable[[], None]) -> None:
        try:
            with self._removing:
                remove()
        except (OSError, RecursionError) as exc:  # the latter for folders in folders without end
            log.warning("files_not_removed reason=%s", exc)


def clear_persons(state_dir: Path, rights: UserRights) -> None:
    """Remove all that processes of other users have left on this node."""
    for uid in rights.taken:
        try:
            PersonFolders(state_dir, rights).clear(uid)
        except FileNotFoundError:
            pass
        except (OSError, RecursionError) as exc:
            log.warning("files_of_account_not_removed uid=%d reason=%s", uid, exc)


def remove_abandoned() -> None:
    """Remove the blobs of those agents of this user that have ended."""
    for folder in shared_memory.folders():
        with contextlib.suppress(FileNotFoundError):  # the agent of this folder has removed it meanwhile
            _remove_abandoned(folder)


def _remove_abandoned(folder: Path) -> None:
    fd = os.open(folder, _DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        log.warning("abandoned_blobs_removed folder=%s", folder)
        _remove(folder)
    except BlockingIOError:  # the agent of this folder lives
        return
    finally:
        os.close(fd)


def _is_open(fd: int, path: Path) -> bool:
    """Whether the descriptor is that of the folder that has this name now."""
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
