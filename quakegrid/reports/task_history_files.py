"""Files of task records: one for each session, a row of length-prefixed blocks that its lane appends.

Has their names, their framing and the limit of their size. Of a block it reads only whose it is. A file that
ends in the middle of a block is read up to there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from quakegrid import errors
from quakegrid.api.v1.task_records_pb2 import TaskRecordBlock
from quakegrid.settings.config import Settings

# Limit for one machine; files of the oldest sessions are removed. A record takes about 40 bytes.
KEPT_BYTES = 256 << 20
KEPT_FILES = 1000
# Limit for one session; further attempts are only counted.
MAX_FILE_BYTES = 64 << 20
_PARCEL_BYTES = 1 << 20
_LENGTH = struct.Struct("<I")


def folder(settings: Settings) -> Path:
    """Where the lanes of this machine keep them."""
    return settings.state_dir / "records"


def frame(block: TaskRecordBlock) -> bytes:
    """A block as a file has it."""
    data = block.SerializeToString()
    return _LENGTH.pack(len(data)) + data


def read(path: Path) -> Iterator[TaskRecordBlock]:
    """The whole blocks of a file, in order."""
    with path.open("rb") as file:
        while len(prefix := file.read(_LENGTH.size)) == _LENGTH.size:
            (size,) = _LENGTH.unpack(prefix)
            data = file.read(size)
            if len(data) < size:
                return
            yield TaskRecordBlock.FromString(data)


def parcel(path: Path, offset: int) -> tuple[list[TaskRecordBlock], int]:
    """The next whole blocks of a file that may grow, about as many as suit a message.

    Args:
        path: of the file.
        offset: where the blocks that were read before end; 0 at first.
    Returns:
        The blocks, and where they end.
    """
    blocks: list[TaskRecordBlock] = []
    with path.open("rb") as file:
        file.seek(offset)
        start = offset
        while offset - start < _PARCEL_BYTES and len(prefix := file.read(_LENGTH.size)) == _LENGTH.size:
            (size,) = _LENGTH.unpack(prefix)
            data = file.read(size)
            if len(data) < size:
                break
            blocks.append(TaskRecordBlock.FromString(data))
            offset += _LENGTH.size + size
    return blocks, offset


def parcels(path: Path) -> Iterator[list[TaskRecordBlock]]:
    """The same in groups, each as large as suits a message."""
    parcel: list[TaskRecordBlock] = []
    byte_count = 0
    for block in read(path):
        parcel.append(block)
        byte_count += block.ByteSize()
        if byte_count >= _PARCEL_BYTES:
            yield parcel
            parcel, byte_count = [], 0
    if parcel:
        yield parcel


def find(directory: Path, number: int) -> Path:
    """The file of a session, or of the last session of a job.

    Raises:
        NotFoundError: there is none.
    """
    for path in reversed(_files(directory)):
        first = next(read(path), TaskRecordBlock())
        if number == first.session.session_id or number in first.session.job_ids:
            return path
    raise errors.NotFoundError(
        f"there are no task records of job {number}: it has run no task on the cluster, or its records "
        f"made room for newer ones ({KEPT_BYTES >> 20} MiB are kept)"
    )


def session_ids(directory: Path) -> list[int]:
    """The sessions whose records are kept, the oldest first."""
    return [int(path.name) for path in _files(directory)]


def make_room(directory: Path) -> None:
    """Remove the oldest files, so that one more of full size may come."""
    files = _files(directory)
    sizes = [path.stat().st_size for path in files]
    left_bytes, left_count = sum(sizes), len(files)
    for path, size in zip(files, sizes, strict=True):
        if left_bytes <= KEPT_BYTES - MAX_FILE_BYTES and left_count < KEPT_FILES:
            return
        path.unlink(missing_ok=True)
        left_bytes -= size
        left_count -= 1


def _files(directory: Path) -> list[Path]:
    """All record files, the oldest session first."""
    if not directory.is_dir():
        return []
    return sorted(
        (path for path in directory.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)
    )
