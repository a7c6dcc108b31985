"""The files of journals, in a folder of the person below the state directory: one for each calculation.

    journals/<number of an account>/of-<person>/<job>.journal

Persons without an account of their own share one, and its folder; each has a folder in that.

A driver locks the journals of its jobs while it lives. So a journal that can be locked has no driver, and no
calculation is started twice.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import getpass
import itertools
import mmap
import os
import secrets
import stat
import time
from pathlib import Path
from typing import Self
from urllib.parse import quote

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
# Begins the names of persons' folders.
_OF = "of-"
# Begins the names of what others had put where the folder of an account goes.
_MOVED = "not-of-"
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
        _remove_moved(folder)


def _remove_moved(folder: Path) -> None:
    """Remove what was moved away long ago; a folder of somebody else that is not empty stays."""
    oldest_s = time.time() - KEEP_DAYS * 86400
    for path in folder.glob(f"{_MOVED}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_ctime < oldest_s:
                (path.rmdir if stat.S_ISDIR(found.st_mode) else path.unlink)()


def clear_place(state_dir: Path, uid: int) -> str:
    """Move away what others have put where the folder of an account goes; says what was there, if anything.

    For the owner of the shared folder, before a driver starts: people can make entries there, and nobody
    else can remove them.

    Args:
        state_dir: has the shared folder.
        uid: of the account.
    Raises:
        OSError: it cannot be moved.
    """
    place = state_dir / FOLDER / str(uid)
    try:
        found = place.lstat()
    except FileNotFoundError:
        return ""
    if found.st_uid == uid and stat.S_ISDIR(found.st_mode):
        return ""
    place.rename(place.with_name(f"{_MOVED}{uid}-{secrets.token_hex(4)}"))
    return f"an entry of user {found.st_uid}"


def own_folder(state_dir: Path, person: str = "") -> Path:
    """The folder of a person who has this process's account; made if it does not exist.

    Args:
        state_dir: has the shared folder.
        person: their name; empty for whoever runs this process.
    Raises:
        OSError: it cannot be made, or is somebody else's, or is open to others, who may have
            moved one of ours here: journals hold pickles.
    """
    folder = state_dir / FOLDER / str(os.getuid())
    if not folder.parent.exists():
        make_shared(state_dir)
    own = folder / f"{_OF}{quote(person or getpass.getuser(), safe='')}"
    for each in (folder, own):
        each.mkdir(mode=0o700, exist_ok=True)
        found = each.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{each} belongs to somebody else")
        if found.st_mode & 0o077:
            raise PermissionError(f"{each} is open to others")
    return own


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


def append(
    file: JournalFile, placed: Placed | None, record: records.Record, patience_s: float = 0.0
) -> Placed:
    """Write one record at once behind another one; what was behind that is dropped.

    Args:
        file: the journal.
        placed: the last record to keep.
        record: to write.
        patience_s: how long to wait for room on a full disk.
    Raises:
        OSError: it cannot be written.
    """
    start, before = (placed.end, placed.checksum) if placed else (0, 0)
    parts, checksum = records.encode(record, before)
    os.ftruncate(file.fd, start)
    data = b"".join(parts)
    end_s = time.monotonic() + patience_s
    while not _has_written(file.fd, data, start):
        if time.monotonic() >= end_s:
            raise OSError(errno.ENOSPC, "the disk is full")
        time.sleep(POLL_S)
    os.fdatasync(file.fd)
    return Placed(record, start + len(data), checksum)


def _has_written(fd: int, data: bytes, start: int) -> bool:
    """Write all at a place; False, and nothing is there, if the disk has no room for it."""
    try:
        written = os.pwrite(fd, data, start)
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        written = 0
    if written != len(data):
        os.ftruncate(fd, start)
        return False
    return True


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
        """Remove journals that were kept for long enough, also those of an earlier layout.

        Before persons had folders of their own, journals were in that of the account.
        """
        oldest_s = time.time() - KEEP_DAYS * 86400
        earlier = [f"../*{SUFFIX}"] if self._folder.name.startswith(_OF) else []
        for written_s, path, _size in self._all(f"*{SUFFIX}", *earlier):
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
