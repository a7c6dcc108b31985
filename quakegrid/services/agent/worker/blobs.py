"""Blobs of one session on one node: the first worker that needs a blob fetches it, and all workers map it.

A blob is a file in shared memory, which gets its name when it is complete. A lock file lets one worker fetch
while the others wait. Each use gets a copy-on-write view of its own, so a task may change its arguments.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path

from quakegrid.blobs import shared_memory
from quakegrid.services.agent.worker.holdings import Frame
from quakegrid.wire.v1 import lane_pb2


class MappedFrame:
    """A blob's content, used like a frame of a message."""

    def __init__(self, content: mmap.mmap) -> None:
        self.buffer = memoryview(content)


class NodeBlobs:
    """The blobs of a session, for one of its workers.

    Args:
        directory: of the session on this node; removed by the agent when the session's last worker ended.
            None: the node has none, and blobs are fetched each time.
        fetch: gets a blob's content from the lane.
    """

    def __init__(self, directory: Path | None, fetch: Callable[[bytes], Frame]) -> None:
        self._directory, self._fetch = directory, fetch
        self._has_told = False

    def frame(self, ref: lane_pb2.BlobRef) -> Frame | MappedFrame:
        """The content of a blob; fetched if the node does not have it."""
        if ref.byte_count == 0 or self._directory is None:  # an empty file cannot be mapped
            return self._fetch(ref.blob_id)
        try:
            fd = self._open(self._directory / ref.blob_id.hex(), ref.blob_id)
        except (FileNotFoundError, PermissionError):
            # The driver has dropped the blob just now, or the session ends, or another user has the folder.
            return self._fetch(ref.blob_id)
        except OSError as exc:
            if exc.errno not in shared_memory.NO_ROOM:
                raise
            self._tell(exc)
            return self._fetch(ref.blob_id)
        try:
            # Private, so that no other task sees what a task writes.
            content = mmap.mmap(fd, ref.byte_count, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(fd)
        return MappedFrame(content)

    def _open(self, path: Path, blob_id: bytes) -> int:
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            with path.with_suffix(".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not path.exists():
                    shared_memory.write_whole(path, self._fetch(blob_id).buffer)
                return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def _tell(self, exc: OSError) -> None:
        if not self._has_told:
            self._has_told = True
            print(
                f"no room for shared arguments in {self._directory} ({exc.strerror}); "
                "they travel with each task instead",
                file=sys.stderr,
            )
