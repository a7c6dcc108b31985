"""A file of the job as a worker reads it: a file object over the blocks of its epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quakegrid.files.placed_reads import PlacedReads
from quakegrid.files.rules.blocks import BLOCK_BYTES, blocks_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from quakegrid.files.block_stores import EpochBlocks
    from quakegrid.files.rules.tables import FileEpoch


class FileView(PlacedReads):
    """A file that can be read and not written.

    Args:
        epoch: of the file.
        blocks: of the epoch; None for an empty file.
    """

    def __init__(self, epoch: FileEpoch, blocks: EpochBlocks | None) -> None:
        super().__init__(epoch.byte_count)
        self.name, self._blocks = epoch.path, blocks

    def __repr__(self) -> str:
        """What h5py takes for the name of the file."""
        return self.name

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as many bytes as there are, and at most as many as fit."""
        target = memoryview(buffer).cast("B")
        byte_count = max(0, min(target.nbytes, self._byte_count - self._place))
        done = 0
        for number in blocks_of(self._place, byte_count):
            assert self._blocks is not None, "an empty file has no bytes"
            start = self._place + done - number * BLOCK_BYTES
            piece = self._blocks.block(number)[start : start + byte_count - done]
            target[done : done + piece.nbytes] = piece
            done += piece.nbytes
        self._place += done
        return done
