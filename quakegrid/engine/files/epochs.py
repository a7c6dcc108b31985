"""Makes the epoch of a datastore that its driver goes on writing.

Called in the driver's main thread between two calls of HDF5. Small files are copied. Of a large one the
metadata are copied: object headers and tables of links, all that HDF5 reads to show every object. What they
lead to does not change if its dataset was complete when the epoch began, and tasks read no other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import h5py

from quakegrid.files import library
from quakegrid.files.placed_reads import PlacedReads
from quakegrid.files.rules.overlays import Overlay
from quakegrid.files.sources import EpochSource, LiveSource, WholeSource, opened

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def make(h5: Any, whole_bytes: int | None = None) -> tuple[str, EpochSource]:
    """Begin an epoch of an open file; its real path and what it reads.

    Args:
        h5: open for writing in this process.
        whole_bytes: size up to which a file is copied; None for the usual.
    Raises:
        OSError: the file is not where it was opened.
        FileGoneError: the same.
    """
    h5.flush()
    real = os.path.realpath(h5.filename)
    with opened(real) as fd:
        byte_count = os.fstat(fd).st_size
        if byte_count <= (library.WHOLE_BYTES if whole_bytes is None else whole_bytes):
            return real, WholeSource(os.pread(fd, byte_count, 0))
        recorder = _ReadRecorder(fd, byte_count)
        with h5py.File(recorder, "r") as seen:
            h5py.h5o.visit(seen.id, _do_nothing, info=True)  # a third of the time that `visititems` takes
        return real, LiveSource(fd, Overlay(recorder.ranges), byte_count)


def _do_nothing(*_args: object) -> None:
    """Go on to the next object."""


class _ReadRecorder(PlacedReads):
    """A file object that remembers what was read of a file."""

    def __init__(self, fd: int, byte_count: int) -> None:
        super().__init__(byte_count)
        self._fd = fd
        self.ranges: list[tuple[int, bytes]] = []

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read, and remember."""
        target = memoryview(buffer).cast("B")
        content = os.pread(self._fd, min(target.nbytes, max(0, self._byte_count - self._place)), self._place)
        self.ranges.append((self._place, content))
        self._place += len(content)
        target[: len(content)] = content
        return len(content)
