"""The journal of one job while it runs: answers what is recorded, and records what is new."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from quakegrid.engine.replay.digests import SubmissionDigests
from quakegrid.engine.replay.ordered import DivergedError, JournalContent, Submission
from quakegrid.journals import files
from quakegrid.journals.files import JournalFile, JournalRoom
from quakegrid.journals.records import Frame, Record, RecordKind
from quakegrid.journals.writer import JournalWriter

# Without these records a calculation could not go on, so they are worth a wait.
ROOM_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class RecordedFrame:
    """A frame of an outcome, in the file."""

    buffer: memoryview


@dataclass(frozen=True, slots=True)
class RecordedOutcome:
    """An outcome of an earlier run, as the lane would deliver it."""

    number: int
    frames: Sequence[RecordedFrame]
    error: str = ""


class OutcomeJournal(Protocol):
    """What Starmaps need of a journal."""

    def submit(self, func: Callable[..., Any], args: Any, task_no: int, monitor: Any) -> Submission | None:
        """Take note of a submission; None if nothing is recorded."""

    def next(self) -> RecordedOutcome | None:
        """The outcome whose turn it is; None if the lane delivers the next one."""

    def record(self, submission: Submission | None, frames: Sequence[Frame]) -> None:
        """Record an outcome that the lane has delivered."""

    def lose(self, number: int) -> NoReturn:
        """The outcome whose turn it is has come when nobody waits for it any more."""

    def close(self, reason: str = "") -> None:
        """Record nothing any more; what is recorded stays. Without a reason nobody is told."""


class NoJournal:
    """Of a driver that has none."""

    def submit(self, _func: Callable[..., Any], _args: Any, _task_no: int, _monitor: Any) -> None:
        """Nothing is recorded."""

    def next(self) -> None:
        """Nothing is recorded."""

    def record(self, submission: Submission | None, frames: Sequence[Frame]) -> None:
        """Nothing is recorded."""

    def lose(self, number: int) -> NoReturn:
        """Nothing is recorded."""
        raise AssertionError(number)

    def close(self, reason: str = "") -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What a journal tells: `diverged` ends this process."""

    warn: Callable[[str], None]
    note: Callable[[str], None]
    diverged: Callable[[str], NoReturn]


class JobJournal:
    """One job's.

    Args:
        file: open and locked; closed by `end`.
        room: how much it may have.
        telling: of people, and of this process.
    """

    def __init__(self, file: JournalFile, room: JournalRoom, telling: Telling) -> None:
        self.file, self._room, self._telling = file, room, telling
        self.content = JournalContent(file.content())
        self._digests = SubmissionDigests()
        self._writer: JournalWriter | None = None
        self._start_s = 0.0
        self.is_replaying = False

    @property
    def replayed_count(self) -> int:
        """Outcomes that were there when this driver began."""
        return len(self.content.outcomes)

    def write(self, kind: RecordKind, frames: Sequence[Frame], number: int = 0) -> None:
        """Write a record at once; before `begin` only. Waits for room on a full disk, as the dbserver does.

        Raises:
            OSError: it cannot be written.
        """
        placed = files.append(self.file, self.content.last, Record(kind, frames, number), ROOM_PATIENCE_S)
        self.content.last = placed
        if kind is RecordKind.PINS:
            self.content.pins = placed

    def forget_outcomes(self) -> None:
        """Keep only what was asked for, and that it was tried: the calculation begins anew."""
        if self._writer is not None:
            self._writer.close()
        self.content.last = self.content.request
        self.write(RecordKind.RESUMED, [json.dumps({"diverged": time.time()}).encode()], 1)
        self.content = JournalContent(self.file.content())  # what was read before is overwritten

    def begin(self) -> None:
        """Answer and record from now on."""
        last = self.content.last
        end, checksum = (last.end, last.checksum) if last else (0, 0)
        self._writer = JournalWriter(self.file.fd, end, checksum, self._room.why_full, self._on_closed)
        self._start_s, self.is_replaying = time.monotonic(), not self.content.outcomes.is_over

    def end(self, *, is_complete: bool) -> None:
        """Close the file; remove it if the calculation needs it no more."""
        if self._writer is not None:
            self._writer.close()
        if is_complete:
            self.file.remove()
        self.file.close()

    def check_over(self) -> None:
        """Before the job is complete: a run that did not ask for all outcomes is another one."""
        if self._writer is not None and not self.content.outcomes.is_over:
            self._telling.diverged("it has ended earlier")

    # --- what Starmaps need

    def submit(self, func: Callable[..., Any], args: Any, task_no: int, monitor: Any) -> Submission:
        """Take note of a submission."""
        digest = self._digests.of(func, args, task_no, monitor)
        try:
            return self.content.outcomes.submit(digest)
        except DivergedError as exc:
            self._telling.diverged(f"{exc} ({func.__name__})")

    def next(self) -> RecordedOutcome | None:
        """The outcome whose turn it is; None if the lane delivers the next one."""
        if not self.is_replaying:
            return None
        try:
            record = self.content.outcomes.next()
        except DivergedError as exc:
            self._telling.diverged(str(exc))
        assert record is not None, "it is replaying"
        if self.content.outcomes.is_over:
            self.is_replaying = False
            self._telling.note(
                f"{self.replayed_count} outcomes of the earlier run were taken from its journal in "
                f"{time.monotonic() - self._start_s:.1f} s; what follows is computed"
            )
        return RecordedOutcome(record.number, [RecordedFrame(memoryview(frame)) for frame in record.frames])

    def lose(self, number: int) -> NoReturn:
        """A recorded outcome came when nobody waited for it any more."""
        self._telling.diverged(f"it does not wait for its task number {number}")

    def record(self, submission: Submission | None, frames: Sequence[Frame]) -> None:
        """Record an outcome that the lane has delivered."""
        if submission is not None and self._writer is not None:
            number, digest, _is_recorded = submission
            self._writer.append(Record(RecordKind.OUTCOME, frames, number, digest))

    def close(self, reason: str = "") -> None:
        """Record nothing any more; what is recorded stays. Without a reason nobody is told."""
        if self._writer is not None:
            self._writer.give_up(reason)

    def _on_closed(self, reason: str) -> None:
        if not reason:
            return
        self._telling.warn(
            f"the journal of this calculation takes nothing more: {reason}. The calculation goes on; should "
            "its driver die, what follows is computed again"
        )
