"""Where the blocks of a file are kept on a node, so that each travels once.

A store is a sparse file, and beside it a byte for each block that says whether the block is there. Workers
of one node share the store in shared memory. The worker that needs a block first locks its byte and fetches
it, while the others wait. Where there is no room, a worker keeps blocks in its own temporary folder; where
that has no room either, it keeps a few in memory.
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from quakegrid.blobs import shared_memory
from quakegrid.files.rules.blocks import block_count, place_of
from quakegrid.files.rules.tables import FileEpoch

# So much of a disk or of shared memory stays free, for blobs and for the tasks.
FREE_PART = 0.25
# Blocks in memory where there is no room elsewhere: 4 MiB.
MOST_IN_MEMORY = 8
_IS_HERE = 1
_SUFFIXES = _DATA, _HERE = ".data", ".here"

Fetch = Callable[[bytes, int, int], memoryview]


class BlockStore:
    """Blocks of one epoch in one folder.

    Args:
        folder: where; made if it does not exist.
        epoch: of the file.
    Raises:
        OSError: there is no room, or no folder.
    """

    def __init__(self, folder: Path, epoch: FileEpoch) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._byte_count = epoch.byte_count
        self._data_fd, data = _map(folder / f"{epoch.epoch_id.hex()}{_DATA}", epoch.byte_count)
        self._view = memoryview(data)
        try:
            count = block_count(epoch.byte_count)
            self._flags_fd, self._flags = _map(folder / f"{epoch.epoch_id.hex()}{_HERE}", count)
            os.posix_fallocate(self._flags_fd, 0, count)  # a page that cannot be had would kill us
        except OSError:
            os.close(self._data_fd)
            raise

    def block(self, number: int) -> memoryview | None:
        """A block that is here."""
        if self._flags[number] != _IS_HERE:
            return None
        offset, byte_count = place_of(number, self._byte_count)
        return self._view[offset : offset + byte_count]

    @contextlib.contextmanager
    def locked(self, number: int) -> Iterator[None]:
        """Wait until no other process fetches this block; it may be here then."""
        fcntl.lockf(self._flags_fd, fcntl.LOCK_EX, 1, number)
        try:
            yield
        finally:
            fcntl.lockf(self._flags_fd, fcntl.LOCK_UN, 1, number)

    def put(self, number: int, content: memoryview) -> bool:
        """Keep a block; False if there is no room."""
        found = os.fstatvfs(self._data_fd)
        free_bytes = found.f_bavail * found.f_frsize
        if free_bytes - content.nbytes < found.f_blocks * found.f_frsize * FREE_PART:
            return False
        offset, _ = place_of(number, self._byte_count)
        try:
            done = 0
            while done < content.nbytes:
                done += os.pwrite(self._data_fd, content[done:], offset + done)
        except OSError as exc:
            if exc.errno not in shared_memory.NO_ROOM:
                raise
            return False
        self._flags[number] = _IS_HERE
        return True

    def close(self) -> None:
        """Close descriptors; what is mapped goes with the last view of it."""
        os.close(self._data_fd)
        os.close(self._flags_fd)


class EpochBlocks:
    """The blocks of one epoch, for one worker.

    Args:
        epoch: of a file that is not empty.
        folders: where they may be kept, the best one first; the first one is shared by the node's workers.
        fetch: gets bytes of an epoch from the driver.
    """

    def __init__(self, epoch: FileEpoch, folders: Sequence[Path], fetch: Fetch) -> None:
        self._epoch, self._fetch = epoch, fetch
        self._stores = list(_open_stores(epoch, folders))
        self._in_memory: collections.OrderedDict[int, memoryview] = collections.OrderedDict()

    def block(self, number: int) -> memoryview:
        """A block, fetched if this node does not have it."""
        found = self._look(number)
        if found is not None:
            return found
        if not self._stores:
            return self._get(number)
        with self._stores[0].locked(number):
            return self._look(number) or self._get(number)

    def close(self) -> None:
        """Close the stores."""
        for store in self._stores:
            store.close()

    def _look(self, number: int) -> memoryview | None:
        for store in self._stores:
            if (found := store.block(number)) is not None:
                return found
        return self._in_memory.get(number)

    def _get(self, number: int) -> memoryview:
        offset, byte_count = place_of(number, self._epoch.byte_count)
        content = self._fetch(self._epoch.epoch_id, offset, byte_count)
        for store in self._stores:
            if store.put(number, content):
                return content
        self._in_memory[number] = content
        if len(self._in_memory) > MOST_IN_MEMORY:
            self._in_memory.popitem(last=False)
        return content


def _open_stores(epoch: FileEpoch, folders: Sequence[Path]) -> Iterator[BlockStore]:
    for folder in folders:
        with contextlib.suppress(OSError):
            yield BlockStore(folder, epoch)


def _map(path: Path, byte_count: int) -> tuple[int, mmap.mmap]:
    """A file of a size, which others may have made already; what nobody has written takes no room."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(fd).st_size < byte_count:
            os.truncate(fd, byte_count)
        return fd, mmap.mmap(fd, byte_count)
    except (OSError, ValueError):
        os.close(fd)
        raise


def remove(folders: Sequence[Path], epoch_ids: Iterable[bytes]) -> None:
    """Remove the blocks of epochs that no task reads any more; workers that have them open keep them."""
    for epoch_id in epoch_ids:
        for folder in folders:
            for suffix in _SUFFIXES:
                with contextlib.suppress(OSError):
                    (folder / f"{epoch_id.hex()}{suffix}").unlink(missing_ok=True)
