"""What file objects have in common that read at a place of their own: h5py asks for no more."""

from __future__ import annotations

import io
import os


class PlacedReads(io.RawIOBase):
    """A file object that can be read and not written; `readinto` is the heir's, and moves the place.

    Args:
        byte_count: of the file.
    """

    def __init__(self, byte_count: int) -> None:
        super().__init__()
        self._byte_count, self._place = byte_count, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Say where the next read begins."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._byte_count}[whence]
        self._place = max(0, start + offset)
        return self._place
