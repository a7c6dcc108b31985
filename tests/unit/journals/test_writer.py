"""The thread that writes a journal: order, a disk that is full, a limit."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from quakegrid import errors
from quakegrid.journals import files, records, writer
from quakegrid.journals.files import JournalFile, JournalRoom
from quakegrid.journals.records import Record, RecordKind
from quakegrid.journals.writer import JournalWriter

OUTCOMES = [Record(RecordKind.OUTCOME, [b"x" * number, b""], number) for number in range(700)]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[JournalFile]:
    """An empty journal."""
    with JournalFile(files.path_of(tmp_path, 7), is_new=True) as file:
        yield file


def begin(
    file: JournalFile,
    check: Callable[[int], str] = lambda _size: "",
    on_closed: Callable[[str], None] = lambda _reason: None,
) -> JournalWriter:
    """A writer at the beginning of a file."""
    return JournalWriter(file.fd, 0, 0, check, on_closed)


def numbers(file: JournalFile) -> list[int]:
    """The numbers of the records in a file."""
    return [placed.record.number for placed in records.read(file.content())]


def test_writer_writes_all_in_order(file: JournalFile) -> None:
    """Also what a single write cannot take."""
    journal = begin(file)
    for record in OUTCOMES:
        journal.append(record)

    journal.close()

    assert numbers(file) == list(range(700))
    assert journal.size == os.fstat(file.fd).st_size


def test_writer_goes_on_behind_what_can_be_believed(file: JournalFile) -> None:
    """A torn end is dropped."""
    placed = files.append(file, None, OUTCOMES[3])
    os.pwrite(file.fd, b"torn", placed.end)
    journal = JournalWriter(file.fd, placed.end, placed.checksum, lambda _size: "", lambda _reason: None)
    journal.append(OUTCOMES[4])

    journal.close()

    assert numbers(file) == [3, 4]


def test_writer_closes_for_good_when_the_disk_is_full(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write that fails is the last one, it leaves whole records, and the reason is told."""
    reasons: list[str] = []
    told = threading.Event()

    def on_closed(reason: str) -> None:
        reasons.append(reason)
        told.set()

    journal = begin(file, on_closed=on_closed)
    journal.append(OUTCOMES[1])
    write = os.pwritev

    def full(fd: int, parts: list[memoryview], place: int) -> int:
        if place:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, parts, place)

    monkeypatch.setattr(os, "pwritev", full)
    while not reasons:
        journal.append(OUTCOMES[2])
        told.wait(0.01)
    monkeypatch.setattr(os, "pwritev", write)
    journal.append(OUTCOMES[3])
    journal.close()

    assert reasons == ["No space left on device"]
    assert set(numbers(file)) <= {1, 2}
    assert numbers(file)[0] == 1


def test_writer_stops_where_it_is_told_to(file: JournalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is asked while there is something new, and its reason is passed on."""
    monkeypatch.setattr(writer, "SYNC_S", 0.0)
    told = threading.Event()
    journal = begin(file, lambda size: "no more" if size else "", lambda _reason: told.set())

    journal.append(OUTCOMES[5])

    assert told.wait(60)
    journal.append(OUTCOMES[6])
    journal.close()
    assert numbers(file) == [5]


def test_writer_waits_for_a_slow_disk_and_then_gives_up(
    file: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in memory has a bound, and so has the wait."""
    go_on = threading.Event()
    reasons: list[str] = []
    write = os.pwritev

    def slow(fd: int, parts: list[memoryview], place: int) -> int:
        go_on.wait(60)
        return write(fd, parts, place)

    monkeypatch.setattr(os, "pwritev", slow)
    monkeypatch.setattr(writer, "MAX_WAITING_BYTES", 100)
    monkeypatch.setattr(writer, "PATIENCE_S", 0.05)
    journal = begin(file, on_closed=reasons.append)

    journal.append(OUTCOMES[600])
    go_on.set()
    journal.close()

    assert reasons == ["its disk is slower than the results come"]


def test_locked_journal_is_nobody_elses(file: JournalFile) -> None:
    """A calculation is not run twice."""
    with pytest.raises(errors.StateError, match="its driver runs"):
        JournalFile(file.path)
    with pytest.raises(errors.NotFoundError):
        JournalFile(file.path.with_name("8.journal"))


def test_oldest_journals_make_room(file: JournalFile, tmp_path: Path) -> None:
    """Those of drivers that run stay."""
    for job_id in (5, 6, 8):
        files.path_of(tmp_path, job_id).write_bytes(bytes(1000))
    os.truncate(file.path, 1000)

    assert JournalRoom(tmp_path, 2500).why_full(1000) == ""

    assert sorted(path.stem for path in tmp_path.glob("*.journal")) == ["7", "8"]
    assert "as much as [broker] journal_bytes allows" in JournalRoom(tmp_path, 500).why_full(1000)


def test_journals_are_kept_for_a_week(file: JournalFile, tmp_path: Path) -> None:
    """Then the next calculation of the person removes them."""
    old = files.path_of(tmp_path, 5)
    old.touch()
    for path in (old, file.path):
        os.utime(path, (0, 0))

    JournalRoom(tmp_path, 1 << 30).remove_outdated()

    assert not old.exists()
    assert file.path.exists()


def test_journals_of_the_earlier_layout_go_too(tmp_path: Path) -> None:
    """They were in the account's folder, in which each person has one now."""
    own = files.own_folder(tmp_path, "anna")
    for folder in (own, own.parent, own.parent.parent):
        for job_id in (5, 6):
            files.path_of(folder, job_id).touch()
        os.utime(files.path_of(folder, 5), (0, 0))

    JournalRoom(own, 1 << 30).remove_outdated()

    assert [files.path_of(folder, 5).exists() for folder in (own, own.parent, own.parent.parent)] == [0, 0, 1]
    assert all(files.path_of(folder, 6).exists() for folder in (own, own.parent))


def test_what_was_moved_away_is_removed_after_a_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and empty folders: what is in folders of others cannot be removed."""
    files.make_shared(tmp_path)
    shared = tmp_path / files.FOLDER
    (shared / "not-of-7-ab").mkdir()
    (shared / "not-of-7-cd").write_text("x")
    (shared / "not-of-7-ef").mkdir()
    (shared / "not-of-7-ef" / "theirs").touch()
    (shared / "7").mkdir()
    days, now_s = 6, time.time()
    monkeypatch.setattr(files, "time", SimpleNamespace(time=lambda: now_s + days * 86400))
    files.make_shared(tmp_path)
    assert len(list(shared.iterdir())) == 4

    days = 8
    files.make_shared(tmp_path)

    assert {path.name for path in shared.iterdir()} == {"7", "not-of-7-ef"}


def test_own_folder_is_closed_to_others(tmp_path: Path) -> None:
    """And is refused if another has made it."""
    own = files.own_folder(tmp_path, "anna")
    folder = own.parent

    assert [path.stat().st_mode & 0o777 for path in (own, folder)] == [0o700, 0o700]
    assert folder.parent.stat().st_mode & 0o7777 == files.SHARED_MODE
    folder.chmod(0o770)  # as one of ours that a colleague has moved here
    with pytest.raises(OSError, match="open to others"):
        files.own_folder(tmp_path, "anna")
    own.rmdir()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(OSError, match="somebody else"):
        files.own_folder(tmp_path, "anna")


def test_persons_of_one_account_have_folders_of_their_own(tmp_path: Path) -> None:
    """Whatever their names are: none leads anywhere else."""
    names = ["anna", "ben", "..", "a/b", "anna@example.org", "./anna"]

    folders = {files.own_folder(tmp_path, name) for name in names}

    assert len(folders) == len(names)
    assert {folder.parent for folder in folders} == {tmp_path / files.FOLDER / str(os.getuid())}


def test_place_that_others_have_taken_is_cleared(tmp_path: Path) -> None:
    """By the owner of the folder of all; what its account has made stays."""
    own, mine = files.own_folder(tmp_path, "anna"), os.getuid()
    other = own.parents[1] / str(mine + 1)

    assert (files.clear_place(tmp_path, mine), files.clear_place(tmp_path, mine + 1)) == ("", "")
    for take in (other.mkdir, other.touch, lambda: other.symlink_to(own)):
        take()
        assert files.clear_place(tmp_path, mine + 1) == f"an entry of user {mine}"
        assert not other.is_symlink()
        assert not other.exists()
    assert own.exists()


def test_record_that_must_be_there_waits_for_room(file: JournalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """For so long as it may; a try that failed leaves nothing, and other errors are told at once."""
    write, answers = os.pwrite, list[object]()

    def full_at_first(fd: int, data: bytes, place: int) -> int:
        answer = answers.pop(0) if answers else None
        if isinstance(answer, OSError):
            raise answer
        return write(fd, data[:10] if answer else data, place)

    monkeypatch.setattr(os, "pwrite", full_at_first)
    monkeypatch.setattr(files, "POLL_S", 0.001)
    answers[:] = [OSError(errno.ENOSPC, "full"), "a part of it", OSError(errno.EDQUOT, "full")]
    placed = files.append(file, None, OUTCOMES[3], 60.0)
    assert answers == []
    assert numbers(file) == [3]
    answers[:] = ["a part of it"]
    with pytest.raises(OSError, match="the disk is full"):
        files.append(file, placed, OUTCOMES[4])
    assert os.fstat(file.fd).st_size == placed.end
    answers[:] = [OSError(errno.EIO, "broken"), None]
    with pytest.raises(OSError, match="broken"):
        files.append(file, placed, OUTCOMES[4], 60.0)
