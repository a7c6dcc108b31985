"""Blobs of one session on one node: fetched once by the first worker that needs one, mapped by all.

Files in shared memory, complete as soon as they have their name; a lock file lets one worker fetch while
the others wait. Each use gets a copy-on-write view of its own, so a task may change what it was given.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

import zmq

from quakegrid.wire.v1 import lane_pb2

# Open files of a worker; each is opened again when it is needed again.
MAX_OPEN = 64
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)


class MappedFrame:
    """A blob's content, used like a frame of a message."""

    def __init__(self, content: mmap.mmap) -> None:
        self.buffer = memoryview(content)


class NodeBlobs:
    """What one worker knows of its session's blobs.

    Args:
        directory: of the session on this node; removed by the agent when the session's last worker ended.
        fetch: gets a blob's content from the lane.
    """

    def __init__(self, directory: Path, fetch: Callable[[bytes], zmq.Frame]) -> None:
        self._directory, self._fetch = directory, fetch
        self._fds: dict[bytes, int] = {}
        self._has_told = False

    def frame(self, ref: lane_pb2.BlobRef) -> zmq.Frame | MappedFrame:
        """The content of a blob, fetched unless the node has it."""
        if ref.byte_count == 0:  # nothing can be mapped
            return self._fetch(ref.blob_id)
        try:
            fd = self._fds.get(ref.blob_id) or self._open(ref.blob_id)
        except OSError as exc:
            if exc.errno not in _NO_ROOM:
                raise
            self._tell(exc)
            return self._fetch(ref.blob_id)
        # Private: what a task writes stays its own.
        content = mmap.mmap(fd, ref.byte_count, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        return MappedFrame(content)

    def _open(self, blob_id: bytes) -> int:
        path = self._directory / blob_id.hex()
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            with path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    self._write(path, self._fetch(blob_id).buffer)
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        if len(self._fds) >= MAX_OPEN:
            os.close(self._fds.pop(next(iter(self._fds))))
        self._fds[blob_id] = fd
        return fd

    def _write(self, path: Path, content: memoryview) -> None:
        unfinished = path.with_suffix(".part")
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

    def _tell(self, exc: OSError) -> None:
        if not self._has_told:
            self._has_told = True
            print(
                f"no room for shared arguments in {self._directory} ({exc.strerror}); "
                "they travel with each task instead",
                file=sys.stderr,
            )
