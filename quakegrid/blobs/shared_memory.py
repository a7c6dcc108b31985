"""Blobs in a machine's shared memory: where a cluster keeps them, and how a file gets there whole.

Agent, workers, drivers and lanes of one user and one state directory use the same folder. `folder_id` tells
whether two processes see the same one. Processes that an agent runs as other users have folders of their own.
Does not depend on sessions.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import stat
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - our own folder there is checked
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def folder(state_dir: Path) -> Path:
    """The folder of this user, of a cluster on this machine; it may not exist yet."""
    shared = folder_of(state_dir, os.getuid())
    try:
        is_usable = is_ours(shared)
    except FileNotFoundError:
        is_usable = os.access(SHARED_MEMORY, os.W_OK | os.X_OK)
    return shared if is_usable else state_dir / "run" / "blobs"


def folder_of(state_dir: Path, uid: int) -> Path:
    """The folder of a user in shared memory, whether or not it can be used."""
    name = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
    return SHARED_MEMORY / f"{_prefix(uid)}{name}"


def owners(state_dir: Path) -> list[int]:
    """Numbers of the other users who have a folder of this cluster in shared memory."""
    found = []
    for path in SHARED_MEMORY.glob(folder_of(state_dir, 0).name.replace("-0-", "-*-")):
        uid = path.name.split("-")[1]
        with contextlib.suppress(FileNotFoundError):
            if uid.isdecimal() and int(uid) != os.getuid() and is_ours(path, int(uid)):
                found.append(int(uid))
    return found


def make_folder(path: Path) -> None:
    """Make this user's folder in shared memory, which other users cannot read.

    Raises:
        OSError: there is no room, or another user has taken the name.
    """
    path.mkdir(mode=0o700, exist_ok=True)
    if not is_ours(path, os.geteuid()):
        raise FileExistsError(errno.EEXIST, "another user has taken this name", str(path))


def folders() -> list[Path]:
    """The folders in shared memory of all clusters that this user has, or had, on this machine."""
    found = []
    for path in SHARED_MEMORY.glob(f"{_prefix(os.getuid())}*"):
        with contextlib.suppress(FileNotFoundError):
            found += [path] if is_ours(path) else []
    return found


def is_ours(path: Path, uid: int | None = None) -> bool:
    """Whether a name that anybody on this machine could have taken is a folder of a user's, by default ours.

    Raises:
        FileNotFoundError: nobody has taken it.
    """
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == (os.getuid() if uid is None else uid)


def folder_id(state_dir: Path) -> str:
    """The same for two processes exactly if they see the same files in `folder`."""
    place = folder(state_dir)
    mount = SHARED_MEMORY if place.parent == SHARED_MEMORY else state_dir
    return f"{_BOOT_ID.read_text().strip()}:{mount.stat().st_dev}:{os.getuid()}:{place}"


def write_whole(path: Path, content: memoryview) -> None:
    """Write a file that gets its name only when it is complete; another process may write it first.

    Raises:
        OSError: no room, one of `NO_ROOM`, or no folder; nothing is left.
    """
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        with unfinished.open("wb", buffering=0) as file:
            # Reserved first: a page that cannot be had later would kill us.
            os.posix_fallocate(file.fileno(), 0, content.nbytes)
            rest = content.cast("B")
            while rest:
                rest = rest[file.write(rest) :]
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def map_whole(path: Path) -> memoryview | None:
    """A file's content, not copied; None if it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        return memoryview(mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ))
    finally:
        os.close(fd)


def _prefix(uid: int) -> str:
    return f"quakegrid-{uid}-"
