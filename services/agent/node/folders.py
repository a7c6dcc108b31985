"""What workers and drivers leave in folders of this node, and when it is removed.

Blobs and temporary files of processes whose agent was killed are removed by the next agent of the same state
dir, before it starts any.
"""

from __future__ import annotations

import logging
import queue
import threading
from pathlib import Path

from quakegrid.machine import temporary_folders
from services.agent.node.blob_folders import BlobFolders

log = logging.getLogger("quakegrid.agent")


class NodeFolders:
    """The folders of one agent's processes.

    Args:
        state_dir: of the cluster on this machine.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._removing = threading.Lock()  # two that remove the same would trip over each other

    def clear(self) -> None:
        """Remove all; no worker and no driver of this state dir runs."""
        BlobFolders(self._state_dir).clear()
        for pid in temporary_folders.pids(self._state_dir):
            self._remove(pid)
        if others := temporary_folders.foreign(self._state_dir):
            log.warning("temporary_files_of_other_hosts_left links=%s", ",".join(others))

    def clear_within(self, timeout_s: float) -> None:
        """The same, but wait only so long; the next agent removes what is left."""
        thread = threading.Thread(target=self.clear, name="last folders", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if thread.is_alive():
            log.warning("folders_left reason=%s", f"not removed within {timeout_s:g} s")

    def remove_of(self, pid: int) -> None:
        """Remove the temporary files of a process that has ended, in a thread: there may be many gigabytes.

        The thread is its own, so that a file server that does not answer holds up nothing else, not even the
        end of the agent.
        """
        self._waiting.put(pid)
        if self._thread is None:
            self._thread = threading.Thread(target=self._remove_waiting, name="folders", daemon=True)
            self._thread.start()

    def _remove_waiting(self) -> None:
        while True:
            self._remove(self._waiting.get())

    def _remove(self, pid: int) -> None:
        try:
            with self._removing:
                temporary_folders.remove(self._state_dir, pid)
        except OSError as exc:
            log.warning("temporary_files_not_removed pid=%d reason=%s", pid, exc)
