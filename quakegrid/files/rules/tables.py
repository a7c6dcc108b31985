"""What a task is told of the files that it will read: the epoch of each, so that no request opens them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

EPOCH_ID_BYTES = 16
_HEAD = struct.Struct("<16sqH")


class FileEpoch(NamedTuple):
    """A file as the tasks of one Starmap read it.

    Args:
        path: as the tasks name it.
        epoch_id: the same for the same content, or unique; 16 bytes.
        byte_count: its size.
    """

    path: str
    epoch_id: bytes
    byte_count: int


def dump(epochs: Iterable[FileEpoch]) -> bytes:
    """The table as it travels in a task's payload."""
    parts = []
    for path, epoch_id, byte_count in epochs:
        name = path.encode("utf-8", "surrogateescape")
        parts += [_HEAD.pack(epoch_id, byte_count, len(name)), name]
    return b"".join(parts)


def load(table: bytes) -> dict[str, FileEpoch]:
    """The table that `dump` made, by path."""
    found, place = {}, 0
    while place < len(table):
        epoch_id, byte_count, length = _HEAD.unpack_from(table, place)
        place += _HEAD.size + length
        path = table[place - length : place].decode("utf-8", "surrogateescape")
        found[path] = FileEpoch(path, epoch_id, byte_count)
    return found
