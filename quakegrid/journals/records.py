"""The format of a journal: records with lengths and a checksum, each of which depends on all before it. Pure.

A record is a head, the sizes of its frames, and the frames. The checksum of a record starts from that of the
record before. So what can be believed of a file is always a beginning of it: a torn end, a flipped byte, and
a record that is missing or in another place end that beginning.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import xxhash

Frame = bytes | memoryview
MAGIC = b"QGJ1"
DIGEST_BYTES = 16
# What an outcome answers, where a record is none.
NO_DIGEST = bytes(DIGEST_BYTES)
# Magic, checksum, kind, count of frames, number of the submission, digest of the submission.
_HEAD = struct.Struct(f"<4sQIIQ{DIGEST_BYTES}s")
_CHECKED_FROM = struct.calcsize("<4sQ")  # the checksum covers what follows it
_SIZE = struct.Struct("<Q")
# No result has more; a count beyond it is damage.
MAX_FRAMES = 1 << 20


class RecordKind(IntEnum):
    """What a record tells."""

    # What was asked for: enough to run it again.
    REQUEST = 1
    # What must be equal to use the outcomes again.
    PINS = 2
    # The results of one task.
    OUTCOME = 3
    # Somebody has started the calculation again.
    RESUMED = 4


_KINDS = frozenset(RecordKind)


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `number` and `digest` say which submission an outcome answers."""

    kind: RecordKind
    frames: Sequence[Frame]
    number: int = 0
    digest: bytes = NO_DIGEST


@dataclass(frozen=True, slots=True)
class Placed:
    """A record of a file, where it ends there, and the checksum that the next one starts from."""

    record: Record
    end: int
    checksum: int


def encode(record: Record, checksum: int) -> tuple[list[Frame], int]:
    """The bytes of a record, in parts that are not joined, and its checksum.

    Args:
        record: to write.
        checksum: of the record before; 0 for the first one.
    """
    sizes = b"".join([_SIZE.pack(_byte_count(frame)) for frame in record.frames])
    fields = (record.kind, len(record.frames), record.number, record.digest)
    checked = _HEAD.pack(MAGIC, 0, *fields)[_CHECKED_FROM:] + sizes
    state = xxhash.xxh3_64(checked, seed=checksum)
    for frame in record.frames:
        state.update(frame)
    found = state.intdigest()
    return [_HEAD.pack(MAGIC, found, *fields) + sizes, *record.frames], found


def read(data: memoryview) -> Iterator[Placed]:
    """The records at the beginning of a file that can be believed; their frames are parts of `data`."""
    end, checksum = 0, 0
    while (placed := _read_one(data, end, checksum)) is not None:
        yield placed
        end, checksum = placed.end, placed.checksum


def at(data: memoryview, start: int) -> Record:
    """The record at a place where `read` has found one."""
    found = _parse(data, start)
    assert found is not None, "a record was there"
    return found[0]


def _read_one(data: memoryview, start: int, before: int) -> Placed | None:
    """The record at a place; None if it is not whole and right."""
    found = _parse(data, start)
    if found is None:
        return None
    record, end, checksum = found
    if xxhash.xxh3_64_intdigest(data[start + _CHECKED_FROM : end], seed=before) != checksum:
        return None
    return Placed(record, end, checksum)


def _parse(data: memoryview, start: int) -> tuple[Record, int, int] | None:
    """The record at a place, where it ends, and its checksum, which is not checked; None if there is none."""
    place = start + _HEAD.size
    if place > len(data):
        return None
    magic, checksum, kind, count, number, digest = _HEAD.unpack_from(data, start)
    if magic != MAGIC or kind not in _KINDS or count > MAX_FRAMES or place + count * _SIZE.size > len(data):
        return None
    sizes = [_SIZE.unpack_from(data, place + index * _SIZE.size)[0] for index in range(count)]
    place += count * _SIZE.size
    end = place + sum(sizes)
    if end > len(data):
        return None
    frames = []
    for size in sizes:
        frames.append(data[place : place + size])
        place += size
    return Record(RecordKind(kind), frames, number, digest), end, checksum


def byte_count(record: Record) -> int:
    """Bytes of a record in a file."""
    return _HEAD.size + sum([_SIZE.size + _byte_count(frame) for frame in record.frames])


def _byte_count(frame: Frame) -> int:
    return frame.nbytes if isinstance(frame, memoryview) else len(frame)
