"""One agent for each state directory: a lock on a file there, and the mark that the agent's processes carry.

The kernel frees the lock of an agent that ends, however it ends. It does so over NFS too, where the server
keeps the lock. The file tells other agents who holds it. A mark names the locked file and the agent. With it
the next holder of the lock finds the processes that an earlier one left, and no process of another directory
with the same path.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

from quakegrid.errors import QuakeGridError, StateError
from quakegrid.settings.config import AGENT_MARK, RUN_FOLDER

LOCK_NAME = "agent.lock"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_MAX_RECORD_BYTES = 4096


class StateLock:
    """The lock of one agent on its state directory, for as long as this object is open.

    Args:
        state_dir: of the cluster on this machine; made if it is not there.
        instance_id: of the agent.
    Raises:
        StateError: another agent has it.
        QuakeGridError: the directory cannot be used.
    """

    def __init__(self, state_dir: Path, instance_id: str) -> None:
        path = state_dir / RUN_FOLDER / LOCK_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(path, flags, 0o600)
        except OSError as exc:
            raise QuakeGridError(
                f"the state directory {state_dir} cannot be used: {exc.strerror}; make it writable, or give "
                "another with --state-dir"
            ) from None
        try:
            self._lock(path)
            self._write(path, instance_id)
        except QuakeGridError:
            os.close(self._fd)
            raise
        self.family = mark_family(path)
        self.mark = f"{self.family}{instance_id}"

    def close(self) -> None:
        """Give the lock back. The file stays, since marks name it."""
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def _lock(self, path: Path) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(_who_holds(path, self._fd)) from None
        except OSError as exc:
            if exc.errno not in _NO_LOCKS:
                raise QuakeGridError(f"{path} cannot be locked: {exc.strerror}") from None
            raise QuakeGridError(
                f"{path} cannot be locked: its file system has no locks ({exc.strerror}); give a state "
                "directory on a disk of this machine with --state-dir"
            ) from None

    def _write(self, path: Path, instance_id: str) -> None:
        record = {
            "host": socket.gethostname(),
            "boot_id": _boot_id(),
            "pid": os.getpid(),
            "instance_id": instance_id,
        }
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(record).encode(), 0)
        except OSError as exc:
            raise QuakeGridError(
                f"cannot write {path}: {exc.strerror}; free space there or make it writable, and start again"
            ) from None


def mark_family(path: Path) -> str:
    """The beginning of the marks of all agents that lock this file."""
    found = path.stat()
    return f"{found.st_dev:x}-{found.st_ino:x}-"


def in_environment(mark: str) -> bytes:
    """The beginning of an environment's variable that holds this mark, or a mark of this family."""
    return f"{AGENT_MARK}={mark}".encode()


def _who_holds(path: Path, fd: int) -> str:
    state_dir = path.parent.parent
    holder = _read_holder(fd)
    host, pid = holder.get("host", "an unknown host"), holder.get("pid", "?")
    if host == socket.gethostname() and holder.get("boot_id") in (_boot_id(), None):
        return (
            f"another agent (process {pid}) runs with the state directory {state_dir}; stop it, or give "
            "this one another with --state-dir"
        )
    return (
        f"an agent on {host} (process {pid} there) runs with the state directory {state_dir}, which both "
        f"machines see; give each machine its own with --state-dir or QUAKEGRID_STATE_DIR"
    )


def _read_holder(fd: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(fd, _MAX_RECORD_BYTES, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
