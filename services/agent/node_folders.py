"""What workers and drivers leave in folders of this node, and when it is removed.

Blobs and temporary files of processes whose agent was killed are removed by the next agent of the same state
dir, before it starts any.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from quakegrid import temporary_folders
from quakegrid.config import Settings
from services.agent.blob_folders import BlobFolders

log = logging.getLogger("quakegrid.agent")
_removing = threading.Lock()  # two that remove the same would trip over each other


def clear(settings: Settings) -> None:
    """Remove all; no worker and no driver of this state dir runs."""
    BlobFolders(settings.state_dir).clear()
    for pid in temporary_folders.pids(settings.state_dir):
        _remove(settings, pid)


def remove_of(settings: Settings, pid: int) -> None:
    """Remove the temporary files of a process that has ended, in a thread: there may be many gigabytes."""
    asyncio.get_running_loop().run_in_executor(None, _remove, settings, pid)


def _remove(settings: Settings, pid: int) -> None:
    try:
        with _removing:
            temporary_folders.remove(settings.state_dir, pid)
    except OSError as exc:
        log.warning("temporary_files_not_removed pid=%d reason=%s", pid, exc)
