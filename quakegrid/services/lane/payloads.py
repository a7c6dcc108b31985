"""What a lane keeps for others: payload frames of tasks, blobs, outcomes that wait for a slow driver.

In memory up to a bound, beyond it in files that have no name, so that nothing is left of them whatever
happens. Knows frames; refuses to know what they mean.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from quakegrid.errors import QuakeGridError
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq

# Smaller frames are copied: a frame of ZeroMQ's holds on to more than that.
SMALL_BYTES = 4 << 10
# What a payload costs beside its bytes, with the task, outcome or blob that it belongs to: measured with a
# million queued tasks.
KEPT_BYTES = 500
# A file is given back when nothing in it is wanted any more.
FILE_BYTES = 64 << 20
_WRITE_BUFFERS = 512

Frame = bytes | memoryview | zmq.Frame


class SpillError(QuakeGridError):
    """There is no room for a payload, neither in memory nor on the disk."""


@dataclass(slots=True)
class SpillFile:
    """One file of payloads; `live_count` of those in it are still wanted."""

    file: IO[bytes]
    byte_count: int = 0
    live_count: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a payload is in a file, and the sizes of its frames."""

    file: SpillFile
    offset: int
    sizes: tuple[int, ...]


@dataclass(slots=True)
class Payload:
    """Frames of one message, in memory or at a place in a file; `annex` is its owner's.

    There may be a million: a single small frame is kept as such, without a tuple around it.
    """

    frames: tuple[Frame, ...] | bytes = ()
    annex: Any = None
    place: _Place | None = None

    @property
    def byte_count(self) -> int:
        """Size of all frames."""
        if self.place is not None:
            return sum(self.place.sizes)
        return len(self.frames) if isinstance(self.frames, bytes) else sum(map(_size, self.frames))


@dataclass(slots=True)
class Payloads:
    """All payloads of a lane.

    Args:
        limit_bytes: kept in memory, with what their owners need beside them.
        directory: where the rest goes; None for the system's temporary one.
    """

    limit_bytes: int
    directory: str | None = None
    memory_bytes: int = 0
    kept_count: int = 0
    disk_bytes: int = 0
    _current: SpillFile | None = field(default=None)

    def keep(self, frames: Sequence[zmq.Frame], annex: Any = None, *, is_forced: bool = False) -> Payload:
        """Take in a message.

        Args:
            frames: of the message, not copied if they are large.
            annex: the owner's own.
            is_forced: keep it in memory, beyond the bound, if the disk does not take it.
        Raises:
            SpillError: memory is full, and the disk too.
        """
        if len(frames) == 1:  # most often
            size = lane_sockets.frame_bytes(frames[0])
            used_bytes = self.memory_bytes + KEPT_BYTES * self.kept_count
            if size < SMALL_BYTES and used_bytes + size <= self.limit_bytes:
                self.memory_bytes += size
                self.kept_count += 1
                return Payload(frames[0].bytes, annex)
        sizes = list(map(lane_sockets.frame_bytes, frames))
        byte_count = sum(sizes)
        used_bytes = self.memory_bytes + KEPT_BYTES * self.kept_count
        if byte_count and used_bytes + byte_count > self.limit_bytes:
            try:
                return self._spill(frames, sizes, annex)
            except OSError as exc:
                if not is_forced:
                    raise SpillError(self._explain(exc)) from exc
        self.memory_bytes += byte_count
        self.kept_count += 1
        kept = [
            frame.bytes if size < SMALL_BYTES else frame for frame, size in zip(frames, sizes, strict=True)
        ]
        alone = kept[0] if len(kept) == 1 else None
        return Payload(alone if type(alone) is bytes else tuple(kept), annex)

    def read(self, payload: Payload) -> Sequence[Frame]:
        """The frames of a payload, which stays."""
        place = payload.place
        if place is None:
            return (payload.frames,) if isinstance(payload.frames, bytes) else payload.frames
        rest = memoryview(_read(place.file.file.fileno(), payload.byte_count, place.offset))
        frames = []
        for size in place.sizes:
            frames.append(rest[:size])
            rest = rest[size:]
        return frames

    def drop(self, payload: Payload) -> None:
        """Forget a payload."""
        self.kept_count -= 1
        place = payload.place
        if place is None:
            self.memory_bytes -= payload.byte_count
            return
        self.disk_bytes -= payload.byte_count
        file = place.file
        file.live_count -= 1
        if file.live_count == 0:
            if file is self._current:
                self._current = None
            with contextlib.suppress(OSError):  # of a bad disk: nobody wants what is there
                file.file.close()

    def _spill(self, frames: Sequence[zmq.Frame], sizes: Sequence[int], annex: Any) -> Payload:
        file = self._current
        if file is None or file.byte_count >= FILE_BYTES:
            # Without a name, so it is gone when we are.
            file = SpillFile(tempfile.TemporaryFile(dir=self.directory, buffering=0))  # noqa: SIM115
        offset = file.byte_count
        try:
            _write(file.file.fileno(), [frame.buffer for frame in frames], offset)
        except OSError:
            if file is not self._current:
                file.file.close()
            raise
        self._current = file
        byte_count = sum(sizes)
        file.byte_count += byte_count
        file.live_count += 1
        self.disk_bytes += byte_count
        self.kept_count += 1
        return Payload((), annex, _Place(file, offset, tuple(sizes)))

    def _explain(self, exc: OSError) -> str:
        where = self.directory or tempfile.gettempdir()
        used_bytes = self.memory_bytes + KEPT_BYTES * self.kept_count
        return (
            f"the lane keeps {used_bytes >> 20} MiB in memory, all that [broker] lane_memory allows, "
            f"and could not write to {where}: {exc.strerror or exc}; free some space there or let "
            "[directory] custom_tmp in openquake.cfg name another folder"
        )


def _size(frame: Frame) -> int:
    return lane_sockets.frame_bytes(frame) if isinstance(frame, zmq.Frame) else len(frame)


def _write(fd: int, buffers: list[memoryview], offset: int) -> None:
    while buffers:
        written = os.pwritev(fd, buffers[:_WRITE_BUFFERS], offset)
        offset += written
        while buffers and written >= buffers[0].nbytes:
            written -= buffers.pop(0).nbytes
        if written:
            buffers[0] = buffers[0].cast("B")[written:]


def _read(fd: int, byte_count: int, offset: int) -> bytearray:
    data = bytearray(byte_count)
    view = memoryview(data)
    while view:
        count = os.preadv(fd, [view], offset)
        if count == 0:
            raise EOFError(f"a payload ends {len(view)} bytes early")
        view = view[count:]
        offset += count
    return data
