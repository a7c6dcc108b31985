"""Unpacks archives that people send, within bounds.

What an archive says of itself is checked before anything is written, and counted again while it is written.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from quakegrid.errors import UsageError
from quakegrid.services.web.uploads import names
from quakegrid.services.web.uploads.inputs import LEFT_BYTES

MOST_FILES = 10_000
# Text of models packs 5 to 50 times; what packs much better is made to fill disks.
MOST_RATIO = 250
# Below this size a file may pack as it likes.
SMALL_BYTES = 1 << 20
BLOCK_BYTES = 1 << 20
_READ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an archive may hold.

    Args:
        most_bytes: of all its files, unpacked.
        most_files: how many.
    """

    most_bytes: int
    most_files: int = MOST_FILES


def unpack(source: Path, folder: Path, bounds: Bounds) -> list[str]:
    """Write the files of an archive below a folder; their relative paths, sorted.

    Raises:
        UsageError: it is no archive, or has names, links or amounts that are not taken.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = _checked(archive, bounds)
            _check_space(folder, sum(info.file_size for info in members.values()))
            left = bounds.most_bytes
            for name, info in members.items():
                with archive.open(info) as packed:
                    left -= _write(packed, folder / name, min(left, info.file_size))
    except _READ_ERRORS as exc:
        raise UsageError(f"the archive cannot be unpacked: {exc}") from exc
    check_inner(folder, members, Bounds(left, bounds.most_files))
    return sorted(members)


def check_inner(folder: Path, found: Iterable[str], bounds: Bounds) -> None:
    """Refuse archives among files, which the engine will unpack, if they hold what is not taken.

    Args:
        folder: where the files are.
        found: their relative paths.
        bounds: of all archives together.
    Raises:
        UsageError: one does.
    """
    left = bounds.most_bytes
    try:
        for name in found:
            if name.endswith(".zip"):
                left -= _inner_size(folder / name, Bounds(left, bounds.most_files))
    except _READ_ERRORS as exc:
        raise UsageError(f"the archive cannot be unpacked: {exc}") from exc


def _checked(archive: zipfile.ZipFile, bounds: Bounds) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by the path that each is written to.

    Raises:
        UsageError: one is not taken, or there are too many.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in archive.infolist():
        if info.is_dir():
            continue
        name = names.checked(info.filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise UsageError(f"{name}: a link or a device; only plain files are taken")
        if name in members:
            raise UsageError(f"{name} is in the archive twice")
        total += info.file_size
        _check_amount(name, info, total, bounds)
        members[name] = info
        if len(members) > bounds.most_files:
            raise UsageError(f"the archive has more than {bounds.most_files} files")
    return members


def _check_amount(name: str, info: zipfile.ZipInfo, total: int, bounds: Bounds) -> None:
    if total > bounds.most_bytes:
        raise UsageError(f"the archive has more than {bounds.most_bytes >> 20} MB of files")
    if info.file_size > max(SMALL_BYTES, info.compress_size * MOST_RATIO):
        raise UsageError(f"{name} would become more than {MOST_RATIO} times larger; that is not taken")
    if info.flag_bits & 1:
        raise UsageError(f"{name} is encrypted; send the archive without a password")


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free - needed < LEFT_BYTES:
        raise UsageError(f"no space for {needed >> 20} MB of files: {free >> 20} MB are free on the server")


def _write(packed: IO[bytes], path: Path, most_bytes: int) -> int:
    """Write one file; its size.

    Raises:
        UsageError: it has more bytes than were announced, or another file's name is its folder.
    """
    written = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise UsageError(f"{path.name} cannot be written: {exc.strerror}") from exc
    with os.fdopen(file, "wb") as target:
        for block in _blocks(packed):
            written += len(block)
            if written > most_bytes:
                raise UsageError(f"{path.name} is larger than the archive says")
            target.write(block)
    return written


def _blocks(packed: IO[bytes]) -> Iterator[bytes]:
    while block := packed.read(BLOCK_BYTES):
        yield block


def _inner_size(path: Path, bounds: Bounds) -> int:
    """The unpacked size of an archive inside of the archive, which the engine will unpack.

    Raises:
        UsageError: it may not be unpacked.
    """
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        return sum(info.file_size for info in _checked(archive, bounds).values())
