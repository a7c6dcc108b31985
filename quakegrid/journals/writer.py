"""Writes a journal in a thread of its own: in batches, on the disk about once a second.

Whoever appends pays for one entry in a queue. At the first write that fails the journal is closed for good:
what follows a gap could not be used. The calculation goes on.
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Callable

from quakegrid.journals import records
from quakegrid.journals.records import Frame, Record

# A killed process loses the outcomes of so long, a machine without power those of a second.
BATCH_S = 0.02
SYNC_S = 1.0
# Bytes that may wait in memory for a disk that is slower than the results, and how long one more waits then.
MAX_WAITING_BYTES = 64 << 20
PATIENCE_S = 10.0
_MOST_PARTS = 512  # of one write; the kernel takes 1024


class JournalWriter:
    """Appends records to an open file.

    Args:
        fd: of the file, open for writing; it stays the caller's.
        end: where to write; what is behind it is dropped.
        checksum: of the last record before it.
        check: asked about once a second with the size of the file; says why nothing more may be written.
        on_closed: called in the thread, at most once, with the reason why the journal takes nothing more.
    """

    def __init__(
        self,
        fd: int,
        end: int,
        checksum: int,
        check: Callable[[int], str],
        on_closed: Callable[[str], None],
    ) -> None:
        self._fd, self._end, self._checksum = fd, end, checksum
        self._check, self._on_closed = check, on_closed
        self._waiting: collections.deque[Record] = collections.deque()
        self._put_bytes = self._done_bytes = 0
        self._is_told = False
        self._bell, self._progress, self._closing = threading.Event(), threading.Event(), threading.Event()
        self.is_closed = False
        os.ftruncate(fd, end)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def size(self) -> int:
        """Bytes that are written."""
        return self._end

    def append(self, record: Record) -> None:
        """Take in a record, unless the journal is closed. Its frames must not change any more."""
        if self.is_closed:
            return
        self._waiting.append(record)
        self._put_bytes += records.byte_count(record)
        if not self._is_told:
            self._is_told = True
            self._bell.set()
        if self._put_bytes - self._done_bytes > MAX_WAITING_BYTES:
            self._wait_for_room()

    def give_up(self, reason: str) -> None:
        """Take nothing more; what is written stays. For any thread."""
        if not self.is_closed:
            self.is_closed = True
            self._on_closed(reason)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._closing.set()
        self._bell.set()
        self._thread.join()
        self.is_closed = True

    def _wait_for_room(self) -> None:
        end_s = time.monotonic() + PATIENCE_S
        while self._put_bytes - self._done_bytes > MAX_WAITING_BYTES and not self.is_closed:
            self._progress.clear()
            if not self._progress.wait(end_s - time.monotonic()) and time.monotonic() >= end_s:
                self.give_up("its disk is slower than the results come")

    def _run(self) -> None:
        synced_end, sync_s = self._end, time.monotonic()
        while not self._closing.is_set() or self._waiting:
            is_synced = synced_end == self._end
            self._bell.wait(None if is_synced else SYNC_S)
            self._bell.clear()
            self._closing.wait(BATCH_S)
            self._is_told = False
            try:
                self._write_waiting()
                if self._end != synced_end and time.monotonic() - sync_s >= SYNC_S:
                    os.fdatasync(self._fd)
                    synced_end, sync_s = self._end, time.monotonic()
                    if reason := self._check(self._end):
                        self.give_up(reason)
            except OSError as exc:
                self._drop_torn()
                self.give_up(exc.strerror or str(exc))
            self._progress.set()

    def _write_waiting(self) -> None:
        while self._waiting:
            parts: list[Frame] = []
            end, done_bytes, checksum = self._end, self._done_bytes, self._checksum
            while self._waiting and len(parts) < _MOST_PARTS:
                record = self._waiting.popleft()
                byte_count = records.byte_count(record)
                done_bytes += byte_count
                if not self.is_closed:
                    encoded, checksum = records.encode(record, checksum)
                    parts += encoded
                    end += byte_count
            self._write(parts)
            self._end, self._checksum = end, checksum
            self._done_bytes = done_bytes
            self._progress.set()

    def _write(self, parts: list[Frame]) -> None:
        """Write all of these parts behind the last record."""
        place = self._end
        views = [view for view in map(_as_bytes, parts) if view.nbytes]
        while views:
            written = os.pwritev(self._fd, views[:_MOST_PARTS], place)
            place += written
            while views and written >= views[0].nbytes:
                written -= views.pop(0).nbytes
            if written:
                views[0] = views[0][written:]

    def _drop_torn(self) -> None:
        try:
            os.ftruncate(self._fd, self._end)
        except OSError:
            return  # whoever reads it finds the end of what is whole


def _as_bytes(part: Frame) -> memoryview:
    view = memoryview(part)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")
