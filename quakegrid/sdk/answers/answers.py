"""The answers of a journal of calls: found by keys, and written by a thread.

Any thread may look for one; the executor's thread puts them in. Those that are not on the disk yet are kept
in memory. Does not know what is in them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from quakegrid import errors
from quakegrid.journals import files, named, records
from quakegrid.journals.files import JournalFile, JournalRoom
from quakegrid.journals.records import Frame, Record, RecordKind
from quakegrid.journals.writer import JournalWriter

log = logging.getLogger("quakegrid.sdk")


class CallAnswers:
    """All answers of one name that were there when it was opened, and those of this program.

    Args:
        state_dir: has the journals.
        name: of the journal.
        limit_bytes: of all journals of this user.
    Raises:
        ValueError: that is no name.
        StateError: the folder of journals cannot be used.
    """

    def __init__(self, state_dir: Path, name: str, limit_bytes: int) -> None:
        if not named.NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot name a journal: {named.NAME_WORDS}")
        self._name = name
        try:
            self._folder = named.folder_of(state_dir, name)
            self._room = JournalRoom(files.own_folder(state_dir), limit_bytes)
        except OSError as exc:
            raise errors.StateError(f"the journal {name} cannot be opened: {exc}") from exc
        self._lock = threading.Lock()
        self._places: dict[bytes, tuple[memoryview | None, int]] = {}
        self._recent: dict[bytes, tuple[int, Sequence[Frame]]] = {}
        self._own, self._end = memoryview(b""), 0
        self._file: JournalFile | None = None
        self._writer: JournalWriter | None = None
        self._open()

    def __len__(self) -> int:
        return len(self._places)

    def find(self, key: bytes) -> Sequence[Frame] | None:
        """The frames of an answer; None if there is none."""
        with self._lock:
            place = self._places.get(key)
            if place is None:
                return None
            recent = self._recent.get(key)
            if recent is not None:
                return recent[1]
            data, start = place
            if data is None:  # of our own file, which has grown
                if start >= self._own.nbytes and self._file is not None:
                    self._own = self._file.content()
                data = self._own
            return records.at(data, start).frames

    def put(self, key: bytes, frames: Sequence[Frame]) -> None:
        """Keep an answer, unless there is one, or nothing more is written; the frames must not change."""
        with self._lock:
            writer = self._writer
            if writer is None or writer.is_closed or key in self._places:
                return
            while self._recent:
                oldest, (end, _frames) = next(iter(self._recent.items()))
                if end > writer.size:
                    break
                del self._recent[oldest]
            record = Record(RecordKind.OUTCOME, frames, 0, key)
            self._places[key] = None, self._end
            self._end += records.byte_count(record)
            self._recent[key] = self._end, frames
            writer.append(record)

    def forget(self) -> None:
        """Forget all answers; what other programs add at the moment is lost, too."""
        with self._lock:
            self._shut()
            named.forget(self._folder)
            self._open()

    def close(self) -> None:
        """Write what waits, and let another program have the file. Answers stay."""
        with self._lock:
            self._shut()

    def _shut(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._file is not None:
            self._own = self._file.content()
            self._file.close()
            self._file = None

    def _open(self) -> None:
        """Read all files of the name, and continue one of them."""
        self._places, self._recent, self._own, self._end = {}, {}, memoryview(b""), 0
        own_path = None
        try:
            self._file = named.opened(self._folder)
            own_path = self._file.path
        except OSError as exc:
            self._on_closed(exc.strerror or str(exc))
        for path in named.paths(self._folder):
            if path != own_path:
                self._read(files.content_of(path))
        if self._file is not None:
            self._own = self._file.content()
            self._end, checksum = self._read(self._own)
            self._writer = JournalWriter(
                self._file.fd, self._end, checksum, self._room.why_full, self._on_closed
            )

    def _read(self, data: memoryview) -> tuple[int, int]:
        """Note the places of answers; returns where those end that can be believed, and the last checksum."""
        end = checksum = 0
        for placed in records.read(data):
            if placed.record.kind is RecordKind.OUTCOME:
                self._places[placed.record.digest] = data, end
            end, checksum = placed.end, placed.checksum
        return end, checksum

    def _on_closed(self, reason: str) -> None:
        log.warning("journal_takes_nothing_more name=%s reason=%s", self._name, reason)
