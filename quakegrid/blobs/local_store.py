"""A driver's blobs in the shared memory of its own machine, whose workers map them without a message.

The folder exists while workers of the session are on this machine; the agent makes and removes it.
"""

from __future__ import annotations

from pathlib import Path

from quakegrid.blobs import shared_memory


class LocalBlobs:
    """What this driver has put there.

    Args:
        folder: of the session.
        limit_bytes: at most, in all.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._sizes: dict[bytes, int] = {}
        self._byte_count = 0

    def has(self, blob_id: bytes) -> bool:
        """Whether a content is still there: the agent removes the folder with the session's last worker."""
        return self._path(blob_id).exists()

    def put(self, blob_id: bytes, content: bytes | memoryview) -> bool:
        """Take in a content; False when there is no folder or no room."""
        view = memoryview(content)
        self._forget(blob_id)
        if self._byte_count + view.nbytes > self._limit_bytes:
            return False
        try:
            shared_memory.write_whole(self._path(blob_id), view)
        except FileNotFoundError:  # no worker of ours is here
            return False
        except OSError as exc:
            if exc.errno in shared_memory.NO_ROOM:
                return False
            raise
        self._sizes[blob_id] = view.nbytes
        self._byte_count += view.nbytes
        return True

    def drop(self, blob_id: bytes) -> None:
        """Free the memory of a content; tasks that map it keep it."""
        self._path(blob_id).unlink(missing_ok=True)
        self._forget(blob_id)

    def _forget(self, blob_id: bytes) -> None:
        self._byte_count -= self._sizes.pop(blob_id, 0)

    def _path(self, blob_id: bytes) -> Path:
        return self._folder / blob_id.hex()
