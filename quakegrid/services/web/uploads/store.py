"""Files of people by the hash of their content: an edited model is sent again without what stayed the same.

Each person has a folder of their own here. So a hash says nothing of, and gives no way to, another's files.
A file is hashed when it is whole, and again each time a calculation takes it, so nothing here has to be
trusted.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from quakegrid.errors import NotFoundError, UsageError
from quakegrid.services.web.uploads.inputs import DAY_S, LEFT_BYTES, Inputs
from quakegrid.services.web.uploads.manifests import WantedFile

FOLDER = "web-files"
PIECE_BYTES = 1 << 20
# Of one person, whole or not.
MOST_FILES = 100_000
_PART = ".part"
# Files of different hashes may be written at the same time.
_LOCK_COUNT = 64


@dataclass(slots=True)
class _Usage:
    """What a person has: bytes and number of files here, and bytes of calculations' inputs."""

    here_bytes: int
    file_count: int
    calculations_bytes: int


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that has not come, or not all of it.

    Args:
        sha256: of its content.
        received_bytes: what has come of it already.
    """

    sha256: str
    received_bytes: int


class FileStore:
    """The files of all people of one cluster. Methods block: call them in a thread.

    Args:
        inputs: the folders of calculations, beside which the store lies, and whose quota it shares.
        quota_bytes: that the inputs of one person may have, in both.
    """

    def __init__(self, inputs: Inputs, quota_bytes: int) -> None:
        self.root = inputs.root.with_name(FOLDER)
        self._inputs, self._quota_bytes = inputs, quota_bytes
        self._locks = [threading.Lock() for _ in range(_LOCK_COUNT)]
        self._used: dict[str, _Usage] = {}

    def missing(self, owner: str, wanted: Iterable[WantedFile]) -> list[Missing]:
        """Which files have not come from a person; those that have are kept for a new time.

        Raises:
            UsageError: the person, or the disk, has no room for what is missing.
        """
        folder = self._folder(owner)
        now_s = time.time()
        found: dict[str, Missing] = {}
        more_bytes = 0
        for each in wanted:
            if each.sha256 in found or self._renew(folder / each.sha256, now_s):
                continue
            received = self._received(folder, each)
            found[each.sha256] = Missing(each.sha256, received)
            more_bytes += each.size_bytes - received
        self._used.pop(owner, None)
        self._check_room(owner, more_bytes, len(found))
        return list(found.values())

    def add(self, owner: str, wanted: WantedFile, offset: int, data: bytes) -> int:
        """Take a piece of a file; how many bytes of the file are here now.

        A piece that does not begin where the file ends here is dropped: the sender goes on from the answer.

        Raises:
            UsageError: there is no room, the piece is too long, or the whole has another hash.
        """
        if len(data) > PIECE_BYTES or offset + len(data) > wanted.size_bytes:
            raise UsageError(f"a piece has at most {PIECE_BYTES} bytes, and ends where its file ends")
        folder = self._folder(owner)
        with self._locks[int(wanted.sha256[:8], 16) % _LOCK_COUNT]:
            if self._renew(folder / wanted.sha256, time.time()):
                return wanted.size_bytes
            received = self._received(folder, wanted)
            if offset != received:
                return received
            self._check_room(owner, len(data), 1 if offset == 0 else 0)
            part = folder / f"{wanted.sha256}{_PART}"
            _append(part, data)
            self._note(owner, len(data), 1 if offset == 0 else 0)
            received += len(data)
            if received == wanted.size_bytes:
                self._complete(part, wanted)
            return received

    def take(self, owner: str, sha256: str, target: Path) -> None:
        """Put a file of a person's into a folder of a calculation.

        Raises:
            NotFoundError: it has not come, or is not as it came.
            UsageError: there is no room.
        """
        path = self._folder(owner) / sha256
        try:
            whole = _hash(path) == sha256
        except FileNotFoundError:
            raise NotFoundError(f"no file with the hash {sha256} has come from you") from None
        if not whole:
            path.unlink(missing_ok=True)
            raise NotFoundError(f"the file with the hash {sha256} is damaged; send it again")
        try:
            os.link(path, target)
        except OSError as exc:
            if exc.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise UsageError(f"the input cannot be stored: {exc.strerror}") from exc
            shutil.copyfile(path, target)
            target.chmod(0o400)

    def count_bytes(self, owner: str) -> int:
        """What a person's files take here; one that lies in a calculation's folder, too, counts there."""
        self._used.pop(owner, None)
        return self._usage(owner).here_bytes if self.root.is_dir() else 0

    def sweep(self, keep_days: int) -> int:
        """Remove files that no calculation has taken for some days, and pieces after one; how many.

        Args:
            keep_days: 0 to keep whole files for ever.
        """
        count, now_s = 0, time.time()
        for path in list(self._files(self.root.iterdir() if self.root.is_dir() else ())):
            keep_s = DAY_S if path.suffix == _PART else keep_days * DAY_S
            if keep_s and now_s - path.lstat().st_mtime > keep_s:
                path.unlink(missing_ok=True)
                count += 1
        self._used.clear()
        return count

    def _folder(self, owner: str) -> Path:
        """The folder of a person, private to this service's user."""
        folder = self.root / f"of-{quote(owner, safe='')}"
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.root.is_symlink() or self.root.lstat().st_uid != os.geteuid():
                raise UsageError(f"{self.root} on the server belongs to another user; remove it")
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as exc:
            raise UsageError(f"inputs cannot be stored: {exc.strerror}") from exc
        return folder

    def _renew(self, path: Path, now_s: float) -> bool:
        """Keep a whole file for a new time; whether there is one."""
        try:
            os.utime(path, (now_s, now_s), follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _received(self, folder: Path, wanted: WantedFile) -> int:
        """Bytes that have come of a file; those of a longer one of the same hash are dropped."""
        part = folder / f"{wanted.sha256}{_PART}"
        try:
            size = part.lstat().st_size
        except FileNotFoundError:
            return 0
        # A whole part is left by a service that was killed before it looked at the hash.
        if size < wanted.size_bytes or size == wanted.size_bytes == 0:
            return size
        part.unlink(missing_ok=True)
        return 0

    def _complete(self, part: Path, wanted: WantedFile) -> None:
        if _hash(part) != wanted.sha256:
            part.unlink(missing_ok=True)
            raise UsageError(
                f"what came is not the file with the hash {wanted.sha256}; it may have changed while it "
                "was sent"
            )
        part.chmod(0o400)
        part.rename(part.with_suffix(""))

    def _check_room(self, owner: str, more_bytes: int, more_files: int) -> None:
        used = self._usage(owner)
        if more_files:  # a file begins: calculations may have come or gone since the last one
            used.calculations_bytes = self._inputs.used_bytes(owner)
        if used.file_count + more_files > MOST_FILES:
            raise UsageError(f"{owner} has {used.file_count} files here, and may have {MOST_FILES}")
        if used.here_bytes + used.calculations_bytes + more_bytes > self._quota_bytes:
            raise UsageError(
                f"the inputs of {owner} would take more than {self._quota_bytes >> 20} MB "
                "([web] inputs_quota); remove calculations that are not needed any more"
            )
        free = shutil.disk_usage(self.root).free
        if free - more_bytes < LEFT_BYTES:
            raise UsageError(f"no space for {more_bytes >> 20} MB: {free >> 20} MB are free on the server")

    def _usage(self, owner: str) -> _Usage:
        """What a person has; counted on disk once in a while, as pieces are many."""
        if owner not in self._used:
            sizes = [path.lstat() for path in self._files([self._folder(owner)])]
            here_bytes = sum(each.st_size for each in sizes if each.st_nlink == 1)
            self._used[owner] = _Usage(here_bytes, len(sizes), self._inputs.used_bytes(owner))
        return self._used[owner]

    def _note(self, owner: str, more_bytes: int, more_files: int) -> None:
        used = self._usage(owner)
        used.here_bytes += more_bytes
        used.file_count += more_files

    def _files(self, folders: Iterable[Path]) -> Iterator[Path]:
        for folder in folders:
            yield from (path for path in folder.iterdir() if path.is_file() and not path.is_symlink())


def _append(part: Path, data: bytes) -> None:
    try:
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "ab") as target:
            target.write(data)
    except OSError as exc:
        raise UsageError(f"the input cannot be stored: {exc.strerror}") from exc


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
