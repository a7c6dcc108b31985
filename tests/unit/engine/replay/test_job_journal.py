"""The journal of a job that runs: recorded, replayed, taken further, forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from openquake.baselib import parallel

from quakegrid.engine.replay.job_journal import JobJournal, NoJournal, Telling
from quakegrid.journals import files
from quakegrid.journals.files import JournalFile, JournalRoom
from quakegrid.journals.records import RecordKind


class Told:
    """What a journal tells."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.notes: list[str] = []

    def diverged(self, reason: str) -> NoReturn:
        """Ends the driver."""
        raise RuntimeError(reason)


def task(_number: int, _monitor: Any) -> None:
    """Stands for one of the engine's."""


def args(number: int) -> list[Any]:
    """As upstream pickles them."""
    return [parallel.Pickled(number)]


@contextmanager
def opened(
    path: Path, told: Told, *, is_new: bool = False, limit_bytes: int = 1 << 30
) -> Iterator[JobJournal]:
    """A driver's time with a journal; it is killed at the end, and all that waits is written."""
    telling = Telling(told.warnings.append, told.notes.append, told.diverged)
    room = JournalRoom(path.parent, limit_bytes)
    journal = JobJournal(JournalFile(path, is_new=is_new), room, telling)
    if is_new:
        journal.write(RecordKind.REQUEST, [b"{}", b"contexts"])
        journal.write(RecordKind.PINS, [b"pins"])
    yield journal
    journal.end(is_complete=False)


def submit(journal: JobJournal, *numbers: int) -> list[Any]:
    """Submissions of tasks with these arguments."""
    return [journal.submit(task, args(number), place, None) for place, number in enumerate(numbers)]


def test_second_run_gets_what_the_first_recorded_and_goes_on(tmp_path: Path) -> None:
    """In the order of delivery; a third run gets both."""
    path, told = files.path_of(tmp_path, 7), Told()
    with opened(path, told, is_new=True) as first:
        first.begin()
        zero, one, _two = submit(first, 10, 11, 12)
        assert first.next() is None
        first.record(one, [b"eleven"])
        first.record(zero, [b"ten", b"end"])
    with opened(path, told) as second:
        second.begin()
        submitted = submit(second, 10, 11, 12)
        assert [each.is_recorded for each in submitted] == [True, True, False]
        for expected in (1, [b"eleven"]), (0, [b"ten", b"end"]):
            outcome = second.next()
            assert outcome is not None
            assert (outcome.number, [bytes(frame.buffer) for frame in outcome.frames]) == expected
        assert second.next() is None
        assert told.notes[0].startswith("2 outcomes of the earlier run were taken from its journal")
        second.record(submitted[2], [b"twelve"])
        second.check_over()
    with opened(path, told) as third:
        assert third.replayed_count == 3
        third.begin()
        with pytest.raises(RuntimeError, match="task number 0 is another one"):
            submit(third, 99)
        with pytest.raises(RuntimeError, match="ended earlier"):
            third.check_over()
        with pytest.raises(RuntimeError, match="does not wait for its task number 1"):
            third.lose(1)


def test_forgotten_outcomes_are_gone(tmp_path: Path) -> None:
    """What was asked for stays; what it rests on is found anew."""
    path, told = files.path_of(tmp_path, 7), Told()
    with opened(path, told, is_new=True) as first:
        first.begin()
        first.record(submit(first, 10)[0], [b"x" * 5000])
    with opened(path, told) as second:
        second.forget_outcomes()
        assert (second.replayed_count, second.content.pins) == (0, None)
        second.write(RecordKind.PINS, [b"other pins"])
        second.begin()
        assert second.next() is None
    with opened(path, told) as third:
        assert third.content.vain_count == 1
        assert third.content.request is not None
        assert bytes(third.content.request.record.frames[1]) == b"contexts"
        assert third.content.pins is not None
        assert bytes(third.content.pins.record.frames[0]) == b"other pins"


def test_closed_journal_records_nothing(tmp_path: Path) -> None:
    """With a reason people are told; a task that failed is reason enough by itself."""
    path, told = files.path_of(tmp_path, 7), Told()
    with opened(path, told, is_new=True) as journal:
        journal.begin()
        first, second = submit(journal, 10, 11)
        journal.record(first, [b"ten"])
        journal.close("it makes further jobs")
        journal.record(second, [b"eleven"])
        journal.close()
    assert len(told.warnings) == 1
    assert "takes nothing more: it makes further jobs" in told.warnings[0]
    with opened(path, told) as journal:
        assert journal.replayed_count <= 1


def test_complete_calculation_needs_its_journal_no_more(tmp_path: Path) -> None:
    """Its outputs are in its datastore."""
    path, told = files.path_of(tmp_path, 7), Told()
    with opened(path, told, is_new=True) as journal:
        journal.begin()
        journal.end(is_complete=True)
        assert not path.exists()


def test_driver_without_a_journal_records_nothing() -> None:
    """And asks it nothing."""
    journal = NoJournal()

    assert journal.submit(task, args(1), 0, None) is None
    assert journal.next() is None
    journal.record(None, [])
    journal.close()
    with pytest.raises(AssertionError):
        journal.lose(1)
