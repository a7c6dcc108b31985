"""Where the bytes of an epoch come from on the driver's node: a copy in memory, or the file as it is now.

A file is opened by its real path only, and must be a regular file that still has this path when it is open: a
symbolic link that somebody puts in its place meanwhile is not followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import xxhash

from quakegrid.files.rules.overlays import Overlay

# What tells that a file is the same one, unchanged.
Identity = tuple[int, int, int, int]


class FileGoneError(Exception):
    """The file is not there any more, or it is another one, or it has changed."""


class EpochSource(Protocol):
    """The bytes of one epoch; for any thread."""

    epoch_id: bytes
    byte_count: int

    def read(self, offset: int, byte_count: int) -> bytes:
        """Bytes of the epoch.

        Raises:
            FileGoneError: they cannot be had any more.
        """

    def close(self) -> None:
        """Let go of the file."""


@contextlib.contextmanager
def opened(real_path: str) -> Iterator[int]:
    """A descriptor of a regular file.

    Args:
        real_path: of the file, without symbolic links.
    Raises:
        OSError: it cannot be opened.
        FileGoneError: it is no regular file, or a link has taken its place, or that of a folder above it.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    fd = os.open(real_path, flags)
    try:
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        if not is_file or str(Path(f"/proc/self/fd/{fd}").readlink()) != real_path:
            raise FileGoneError(real_path)
        yield fd
    finally:
        os.close(fd)


def identity(fd: int) -> Identity:
    """The identity of an open file."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class WholeSource:
    """A file that was copied into memory. Its id is the hash of its content."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.epoch_id = xxhash.xxh3_128_digest(content)
        self.byte_count = len(content)

    def read(self, offset: int, byte_count: int) -> bytes:
        """Bytes of the copy."""
        return self._content[offset : offset + byte_count]

    def close(self) -> None:
        """Nothing to do: the memory goes with this object."""


class LiveSource:
    """A file that its driver goes on writing: what its epoch needs was copied, the rest is read as it is.

    Args:
        fd: of the file; a copy of the descriptor is kept.
        overlay: the copies.
        byte_count: the size of the file when the epoch began.
    """

    def __init__(self, fd: int, overlay: Overlay, byte_count: int) -> None:
        self._fd, self._overlay = os.dup(fd), overlay
        self._lock = threading.Lock()  # the number of a closed descriptor may be another file's
        self.epoch_id = os.urandom(16)
        self.byte_count = byte_count

    def read(self, offset: int, byte_count: int) -> bytes:
        """Bytes of the epoch."""
        with self._lock:
            if self._fd < 0:
                raise FileGoneError
            content = os.pread(self._fd, byte_count, offset)
        if len(content) < byte_count:  # the file has become shorter
            content = content.ljust(byte_count, b"\0")
        return self._overlay.lay_over(offset, content)

    def copied(self) -> list[tuple[int, bytes]]:
        """The ranges that were copied."""
        return self._overlay.ranges()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class StableSource:
    """A file that nobody writes any more, such as a parent calculation; opened for each read.

    Its id is made of its identity, so it is the same as long as the file is.

    Args:
        real_path: of the file.
        known: its identity.
    """

    def __init__(self, real_path: str, known: Identity) -> None:
        self._path, self._known = real_path, known
        self.epoch_id = xxhash.xxh3_128_digest(f"{known} {real_path}".encode("utf-8", "surrogateescape"))
        self.byte_count = known[2]

    def read(self, offset: int, byte_count: int) -> bytes:
        """Bytes of the file, which is as it was."""
        try:
            with opened(self._path) as fd:
                if identity(fd) != self._known:
                    raise FileGoneError(self._path)
                return os.pread(fd, byte_count, offset)
        except OSError as exc:
            raise FileGoneError(self._path) from exc

    def close(self) -> None:
        """Nothing to do: no descriptor is kept."""
