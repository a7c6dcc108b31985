"""What a resumption removes, and when: nothing before the dbserver has agreed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from quakegrid import errors
from quakegrid.engine.replay import resume_mode
from quakegrid.engine.replay.job_journal import JobJournal, Telling
from quakegrid.journals import files
from quakegrid.journals.files import JournalFile, JournalRoom
from quakegrid.journals.records import RecordKind

CHANGED = ["the input job.ini has changed"]


class FakeDriver:
    """Of a dbserver that reopens jobs or does not; notes what it is asked in order."""

    def __init__(self, datastore: Path, refusal: str = "") -> None:
        self.asked: list[Any] = []
        self._datastore, self._refusal = datastore, refusal
        self.database = SimpleNamespace(
            client=SimpleNamespace(jobs=SimpleNamespace(reopen=self.reopen)),
            take_up=self.take_up,
            log=self.log,
        )

    def reopen(self, job_id: int, replayed_count: int) -> None:
        """As `JobsClient.reopen`."""
        assert self._datastore.exists(), "it was removed before"
        if self._refusal:
            raise errors.StateError(self._refusal)
        self.asked.append(("reopen", job_id, replayed_count))

    def take_up(self, job_id: int, _mode: str, _description: str) -> None:
        """As `Database.take_up`."""
        assert self._datastore.exists(), "a failure would leave the job without an end"
        self.asked.append(("take up", job_id))

    def log(self, _job_id: int, text: str, _level: str) -> None:
        """As `Database.log`."""
        self.asked.append(text)


def diverged(reason: str) -> NoReturn:
    """Nothing runs here."""
    raise AssertionError(reason)


@pytest.fixture
def journal(tmp_path: Path) -> JobJournal:
    """A journal with two outcomes."""
    path = files.path_of(tmp_path, 7)
    telling = Telling(lambda _text: None, lambda _text: None, diverged)
    made = JobJournal(JournalFile(path, is_new=True), JournalRoom(tmp_path, 1 << 30), telling)
    made.write(RecordKind.REQUEST, [b"{}", b"contexts"])
    made.write(RecordKind.PINS, [b"pins"])
    for number in range(2):
        made.write(RecordKind.OUTCOME, [b"outcome"], number)
    made.end(is_complete=False)
    return JobJournal(JournalFile(path), JournalRoom(tmp_path, 1 << 30), telling)


@pytest.fixture
def datastore(tmp_path: Path) -> Path:
    """Of the first try, with its other files."""
    (tmp_path / "calc_7").mkdir()
    for name in ("calc_7.hdf5", "calc_7_tmp.hdf5", "calc_7/1.hdf5"):
        (tmp_path / name).touch()
    return tmp_path / "calc_7.hdf5"


def begin(journal: JobJournal, datastore: Path, driver: Any, changed: list[str]) -> None:
    """Begin to resume job 7."""
    row = SimpleNamespace(ds_calc_dir=str(datastore.with_suffix("")), calculation_mode="c", description="d")
    oqparam = SimpleNamespace(export_dir=str(datastore.parent))
    again = resume_mode.Again(SimpleNamespace(calc_id=7, get_oqparam=lambda: oqparam), journal, row)
    try:
        resume_mode.begin(again, driver, changed, is_by_itself=True)
    finally:
        journal.end(is_complete=False)


@pytest.mark.parametrize(("changed", "count"), [([], 2), (CHANGED, 0)])
def test_first_try_is_removed_when_the_job_is_reopened(
    journal: JobJournal, datastore: Path, changed: list[str], count: int
) -> None:
    """All its files, which the engine would read or people find; the outcomes too, if they cannot be used."""
    driver = FakeDriver(datastore)
    for number in (7, 70):  # of exports during which a driver was killed
        (datastore.parent / f".quakegrid-export-{number}-abc").mkdir()

    begin(journal, datastore, driver, changed)

    assert driver.asked[:2] == [("reopen", 7, count), ("take up", 7)]
    assert driver.asked[-1].endswith(f"its journal has {count} outcomes of tasks")
    assert not list(datastore.parent.glob("calc_*"))
    assert [path.name for path in datastore.parent.glob(".quakegrid*")] == [".quakegrid-export-70-abc"]
    assert journal.replayed_count == count


@pytest.mark.parametrize("changed", [[], CHANGED])
def test_refused_resumption_removes_nothing(journal: JobJournal, datastore: Path, changed: list[str]) -> None:
    """The dbserver may find that the job is another person's, or runs."""
    driver = FakeDriver(datastore, "job 7 is executing")

    with pytest.raises(errors.StateError, match="job 7 is executing"):
        begin(journal, datastore, driver, changed)

    assert driver.asked == []
    assert len(list(datastore.parent.rglob("*.hdf5"))) == 3
    assert journal.replayed_count == 2


def test_journal_that_cannot_be_written_refuses(
    journal: JobJournal, datastore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words; nothing has changed."""

    def fail(*_args: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    driver = FakeDriver(datastore)
    monkeypatch.setattr(files, "append", fail)

    with pytest.raises(errors.StateError, match=r"its journal cannot be written: No space left on device$"):
        begin(journal, datastore, driver, [])

    assert (driver.asked, datastore.exists()) == ([], True)
