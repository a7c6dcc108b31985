"""What the processes of people leave on this node: blobs in shared memory, and temporary files.

Each account has a folder in shared memory, which belongs to it and is closed to others. It has a folder of
blobs for each session, and links to the temporary folders of processes (see `temporary_folders`). The agent
works there with the rights of the account, so a link that the account has put there leads to nothing that the
account could not reach. Removal may take long, so the callers do it in a thread.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quakegrid.blobs import shared_memory
from quakegrid.machine import temporary_folders
from quakegrid.services.agent.linux.user_rights import UserRights
from quakegrid.services.agent.rules.persons import Account


class PersonFolders:
    """The folders of all accounts that run processes of one agent.

    Args:
        state_dir: of the cluster on this machine.
        rights: of this process over these accounts.
    """

    def __init__(self, state_dir: Path, rights: UserRights) -> None:
        self._state_dir, self._rights = state_dir, rights

    def open(self, account: Account) -> None:
        """Make the folder of an account, as far as it is missing.

        Raises:
            OSError: it cannot be made, or another user has taken its name.
        """
        with self._acting_as(account):
            shared_memory.make_folder(self._root(account.uid))

    def open_session(self, account: Account, session_id: int) -> Path:
        """The folder for the blobs of a session; made if it does not exist.

        Raises:
            OSError: it cannot be made.
        """
        folder = self._root(account.uid) / str(session_id)
        with self._acting_as(account):
            shared_memory.make_folder(folder.parent)
            folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def retire_session(self, account: Account, session_id: int) -> Path | None:
        """Rename the folder of a session that has ended, as its driver may be writing there.

        Returns:
            The folder, for `remove`; None if there is none.
        """
        folder = self._root(account.uid) / str(session_id)
        leaving = folder.with_suffix(f".{os.getpid()}")
        try:
            with self._acting_as(account):
                folder.rename(leaving)
        except OSError:  # the person has removed it, or what has its name
            return None
        return leaving

    def remove(self, account: Account, folder: Path) -> None:
        """Remove a folder. Workers that still map a blob of it keep the memory until they end.

        Raises:
            OSError: a part cannot be removed.
        """
        with self._acting_as(account):
            shutil.rmtree(folder)

    def remove_temporary(self, account: Account, pid: int) -> None:
        """Remove the temporary files of a process that has ended.

        Raises:
            OSError: a part cannot be removed.
        """
        with self._acting_as(account):
            temporary_folders.remove(self._root(account.uid), pid)

    def clear(self, uid: int) -> None:
        """Remove all that processes of an account have left; call it while none of them runs.

        Raises:
            OSError: a part cannot be removed.
        """
        root = self._root(uid)
        with self._rights.acting_as(uid, root.lstat().st_gid, ()):
            for pid in temporary_folders.pids(root):
                temporary_folders.remove(root, pid)
            shutil.rmtree(root)

    def _root(self, uid: int) -> Path:
        return shared_memory.folder_of(self._state_dir, uid)

    @contextmanager
    def _acting_as(self, account: Account) -> Iterator[None]:
        with self._rights.acting_as(account.uid, account.gid, account.groups):
            yield
