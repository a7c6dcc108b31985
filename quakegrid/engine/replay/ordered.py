"""The recorded outcomes of a job, in the order of their delivery. Pure.

Submissions have numbers: the nth of the job, in this run as in the first. An outcome whose submission has not
come when it is its turn, or came with another digest, means that this run is another one: it has diverged.
"""

from __future__ import annotations

from array import array
from typing import NamedTuple

from quakegrid.journals import records
from quakegrid.journals.records import Placed, Record, RecordKind

_NOWHERE = -1


class DivergedError(Exception):
    """This run does not do what the recorded one did: nothing that was replayed may be kept."""


class Submission(NamedTuple):
    """A task as the engine's master side submits it."""

    number: int
    digest: bytes
    is_recorded: bool


class OrderedOutcomes:
    """The outcomes of a file, by their places in it: a million of them take some megabytes.

    Args:
        data: of the file.
    """

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._starts = array("q")  # of the outcomes, in their order
        self._place_of = array("q")  # in `_starts`, by the number of the submission
        self._next = 0
        self._submitted_count = 0

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def is_over(self) -> bool:
        """Whether all of them were delivered."""
        return self._next == len(self._starts)

    def add(self, start: int, placed: Placed) -> None:
        """Take in the next outcome of the file; a second one of the same submission is left out."""
        number = placed.record.number
        while len(self._place_of) <= number:
            self._place_of.append(_NOWHERE)
        if self._place_of[number] == _NOWHERE:
            self._place_of[number] = len(self._starts)
            self._starts.append(start)

    def submit(self, digest: bytes) -> Submission:
        """Take the next submission of this run.

        Raises:
            DivergedError: the recorded one was another one.
        """
        number, self._submitted_count = self._submitted_count, self._submitted_count + 1
        if number >= len(self._place_of) or (place := self._place_of[number]) == _NOWHERE:
            return Submission(number, digest, is_recorded=False)
        if records.at(self._data, self._starts[place]).digest != digest:
            raise DivergedError(f"its task number {number} is another one")
        return Submission(number, digest, is_recorded=True)

    def next(self) -> Record | None:
        """The outcome whose turn it is; None if all were delivered.

        Raises:
            DivergedError: nobody has asked for it.
        """
        if self.is_over:
            return None
        record = records.at(self._data, self._starts[self._next])
        if record.number >= self._submitted_count:
            raise DivergedError(f"it has not submitted task number {record.number}, which was done then")
        self._next += 1
        return record


class JournalContent:
    """What a journal says.

    Args:
        data: of the file.
    """

    def __init__(self, data: memoryview) -> None:
        self.outcomes = OrderedOutcomes(data)
        self.request: Placed | None = None
        self.pins: Placed | None = None
        # The last record that can be believed, behind which the file goes on.
        self.last: Placed | None = None
        # How often the calculation was started again by itself since the last outcome.
        self.vain_count = 0
        start = 0
        for placed in records.read(data):
            self._take(start, placed)
            start = placed.end

    def _take(self, start: int, placed: Placed) -> None:
        self.last = placed
        match placed.record.kind:
            case RecordKind.REQUEST:
                self.request = placed
            case RecordKind.PINS:
                self.pins = placed
            case RecordKind.RESUMED:
                self.vain_count += placed.record.number
            case RecordKind.OUTCOME:
                self.outcomes.add(start, placed)
                self.vain_count = 0
