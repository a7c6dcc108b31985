"""The blocks in which a file travels: which ones a range touches, and where they lie."""

from __future__ import annotations

# Small enough for files that are read here and there, large enough for a line with a delay. Frames below a
# mebibyte are not cut into pieces.
BLOCK_BYTES = 512 << 10


def block_count(byte_count: int) -> int:
    """The number of blocks of a file."""
    return -(-byte_count // BLOCK_BYTES)


def blocks_of(offset: int, byte_count: int) -> range:
    """The blocks that a range touches."""
    return range(offset // BLOCK_BYTES, block_count(offset + byte_count) if byte_count > 0 else 0)


def place_of(block: int, file_bytes: int) -> tuple[int, int]:
    """Offset and size of a block of a file."""
    offset = block * BLOCK_BYTES
    return offset, max(0, min(BLOCK_BYTES, file_bytes - offset))
