"""The files of journals, in a folder of the person below the state directory: one for each calculation.

A driver locks the journals of its jobs while it lives. So a journal that can be locked has no driver, and no
calculation is started twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import mmap
import os
import stat
import time
from pathlib import Path
from typing import Self

from quakegrid import errors
from quakegrid.journals import records
from quakegrid.journals.records import Placed

FOLDER = "journals"
# Below a person's folder: the journals of calls of functions, in a folder for each name.
CALLS = "calls"
SUFFIX = ".journal"
# People make folders of their own there, and see no others'.
SHARED_MODE = 0o1733
# Journals of calculations that failed, or were aborted, are kept for so long.
KEEP_DAYS = 7
POLL_S = 0.1
# Room that stays free on the disk: this much, or this part if that is less.
MIN_FREE_BYTES = 1 << 30
MIN_FREE_PART = 0.05


def make_shared(state_dir: Path) -> None:
    """Make the folder for all people who run calculations on this machine.

    Raises:
        OSError: it cannot be made.
    """
    folder = state_dir / FOLDER
    folder.mkdir(exist_ok=True)
    if folder.stat().st_uid == os.getuid():
        folder.chmod(SHARED_MODE)


def own_folder(state_dir: Path) -> Path:
    """The folder of this process's user; made if it does not exist.

    Raises:
        OSError: it cannot be made, or is somebody else's, or is open to others, who may have
            moved one of ours here: journals hold pickles.
    """
    folder = state_dir / FOLDER / str(os.getuid())
    if not folder.parent.exists():
        make_shared(state_dir)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    if found.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to others")
    return folder


def path_of(folder: Path, job_id: int) -> Path:
    """The journal of a job."""
    return folder / f"{job_id}{SUFFIX}"


def content_of(path: Path) -> memoryview:
    """What is in a journal, also while a driver has it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return memoryview(mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) if size else b"")


class JournalFile:
    """An open and locked journal. A context manager, which closes it.

    Args:
        path: of the file.
        is_new: whether to begin an empty one, in place of any that is there.
        patience_s: how long to wait for the lock: what a driver has forked may outlive it for a moment.
    Raises:
        NotFoundError: there is none.
        StateError: another process has locked it.
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, is_new: bool = False, patience_s: float = 0.0) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self.fd = os.open(path, flags | (os.O_CREAT if is_new else 0), 0o600)
        except FileNotFoundError:
            raise errors.NotFoundError("there is no journal of it on this machine") from None
        try:
            _lock(self.fd, time.monotonic() + patience_s)
            if is_new:
                os.ftruncate(self.fd, 0)
        except BlockingIOError:
            os.close(self.fd)
            raise errors.StateError("its driver runs") from None
        except OSError:
            os.close(self.fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def content(self) -> memoryview:
        """What is in the file now. It is mapped, by a descriptor of its own, which has no lock."""
        return content_of(self.path)

    def remove(self) -> None:
        """Remove the file, whose calculation needs it no more."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let another process have it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def append(file: JournalFile, placed: Placed | None, record: records.Record) -> Placed:
    """Write one record at once behind another one; what was behind that is dropped.

    Raises:
        OSError: it cannot be written.
    """
    start, before = (placed.end, placed.checksum) if placed else (0, 0)
    parts, checksum = records.encode(record, before)
    os.ftruncate(file.fd, start)
    data = b"".join(parts)
    if os.pwrite(file.fd, data, start) != len(data):
        os.ftruncate(file.fd, start)
        raise OSError("the disk is full")
    os.fdatasync(file.fd)
    return Placed(record, start + len(data), checksum)


def _lock(fd: int, end_s: float) -> None:
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end_s:
                raise
            time.sleep(POLL_S)
        else:
            return


class JournalRoom:
    """How much the journals of one person may have.

    Args:
        folder: of the person.
        limit_bytes: of all of them together.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes

    def why_full(self, own_bytes: int) -> str:
        """Why a journal may not grow; empty if it may. Journals that were not used for longest make room.

        Args:
            own_bytes: its size.
        """
        if own_bytes > self._limit_bytes:
            return f"it has {self._limit_bytes >> 20} MiB, as much as [broker] journal_bytes allows"
        self._remove_oldest()
        disk = os.statvfs(self._folder)
        free = disk.f_bavail * disk.f_frsize
        if free < min(MIN_FREE_BYTES, MIN_FREE_PART * disk.f_blocks * disk.f_frsize):
            return f"its disk is full: {free >> 20} MiB are free"
        return ""

    def remove_outdated(self) -> None:
        """Remove journals that were kept for long enough."""
        oldest_s = time.time() - KEEP_DAYS * 86400
        for written_s, path, _size in self._all(f"*{SUFFIX}"):
            if written_s < oldest_s:
                _remove_unused(path)

    def _remove_oldest(self) -> None:
        """Remove the oldest journals that nobody has, while all together are too large."""
        found = self._all(f"*{SUFFIX}", f"{CALLS}/*/*{SUFFIX}")
        surplus = sum(size for _written_s, _path, size in found) - self._limit_bytes
        for _written_s, path, size in found:
            if surplus <= 0:
                return
            if _remove_unused(path):
                surplus -= size

    def _all(self, *patterns: str) -> list[tuple[float, Path, int]]:
        """When journals were last written, their paths and sizes; the oldest first."""
        found = []
        for path in itertools.chain.from_iterable(map(self._folder.glob, patterns)):
            with contextlib.suppress(OSError):
                seen = path.stat()
                found.append((seen.st_mtime, path, seen.st_size))
        return sorted(found)


def _remove_unused(path: Path) -> bool:
    """Remove a journal unless a driver has it; returns whether it is gone."""
    try:
        with JournalFile(path) as file:
            file.remove()
    except (errors.QuakeGridError, OSError):
        return False
    return True
