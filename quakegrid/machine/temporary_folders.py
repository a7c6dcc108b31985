"""A folder for the temporary files of each process, which is removed when the process has ended.

A process makes its folder where it would have put its files, and leaves a link to it in the state dir, under
its host and process id. The agent sees each process end and removes the folder that its link names. If an
agent was killed, the next agent of the same state dir does so. Folders of another host's processes are kept,
since several machines may share a disk, and these processes may live. A process of a user who may not write
to the state dir leaves its link in the user's own folder in shared memory, which then takes the place of the
state dir here. The module does not look for processes.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from pathlib import Path

from quakegrid.blobs import shared_memory

# Processes that the dead process had started may still write there for a moment.
RETRY_PAUSES_S = (0.05, 0.2, 1.0, 3.0)


def make(state_dir: Path) -> Path:
    """Make the folder of this process where `tempfile` makes its files, and let `tempfile` use it.

    Args:
        state_dir: of the cluster on this machine.
    Raises:
        OSError: the folder or the link to it cannot be made, or the agent counts this process as dead.
    """
    base = state_dir if os.access(state_dir, os.W_OK) else shared_memory.folder(state_dir)
    link = _link(base, os.getpid())
    remove(base, os.getpid())  # the link of an earlier process with this number
    folder = Path(tempfile.gettempdir(), f"quakegrid-{os.getuid()}-{os.getpid()}-{os.urandom(4).hex()}")
    link.parent.mkdir(mode=0o700, exist_ok=True)
    link.symlink_to(folder)  # the link is made first, so that each folder has one
    folder.mkdir(mode=0o700)
    if (
        not link.is_symlink()
    ):  # the link was removed before the folder was made: the template has died, and so will this process
        folder.rmdir()
        raise FileNotFoundError(f"{link} is gone: the agent has done with this process")
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = str(folder)
    return folder


def remove(state_dir: Path, pid: int) -> None:
    """Remove the folder of a process that has ended, if it made one; may take some seconds.

    Raises:
        OSError: a part of the folder cannot be removed; the link stays.
    """
    link = _link(state_dir, pid)
    try:
        folder = link.readlink()
    except FileNotFoundError:
        return
    for pause_s in RETRY_PAUSES_S:
        try:
            _remove_tree(folder)
            break
        except OSError:
            time.sleep(pause_s)
    else:
        _remove_tree(folder)
    if link.is_symlink() and link.readlink() == folder:
        link.unlink()
    # The folder may have been made meanwhile. Without the link it cannot be made again, see `make`.
    _remove_tree(folder)


def _remove_tree(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def pids(state_dir: Path) -> list[int]:
    """The processes of this host whose folders have not been removed."""
    names = [name.rpartition(".") for name in _names(state_dir)]
    return [int(pid) for host, _, pid in names if host == _host() and pid.isdecimal()]


def foreign(state_dir: Path) -> list[str]:
    """Names of the links that processes of other hosts left."""
    return sorted(name for name in _names(state_dir) if name.rpartition(".")[0] != _host())


def _names(state_dir: Path) -> list[str]:
    links = state_dir / "tmp"
    return [link.name for link in links.iterdir()] if links.exists() else []


def _link(state_dir: Path, pid: int) -> Path:
    return state_dir / "tmp" / f"{_host()}.{pid}"


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname())
