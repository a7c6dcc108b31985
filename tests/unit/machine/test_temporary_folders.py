"""Folders of single processes, and the links by which they are found."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from quakegrid.machine import temporary_folders


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state dir, and a folder for temporary files beside it."""
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def test_files_go_to_the_folder_and_with_it(state_dir: Path) -> None:
    """Those of `tempfile`, and of programs that look at TMPDIR."""
    folder = temporary_folders.make(state_dir)
    _fd, name = tempfile.mkstemp()
    os.close(_fd)

    assert Path(name).parent == folder == Path(os.environ["TMPDIR"])
    assert folder.parent == state_dir.parent / "scratch"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert temporary_folders.pids(state_dir) == [os.getpid()]

    temporary_folders.remove(state_dir, os.getpid())
    temporary_folders.remove(state_dir, os.getpid())

    assert not folder.exists()
    assert temporary_folders.pids(state_dir) == []


def test_folder_of_an_earlier_process_with_our_number_goes(state_dir: Path) -> None:
    """The agent was killed before it could remove it."""
    first = temporary_folders.make(state_dir)
    tempfile.tempdir = str(first.parent)

    second = temporary_folders.make(state_dir)

    assert not first.exists()
    assert second.exists()


def test_link_whose_folder_was_never_made_goes(state_dir: Path) -> None:
    """Its process died in between."""
    (state_dir / "tmp").mkdir()
    (state_dir / "tmp" / "7").symlink_to(state_dir / "nothing")

    temporary_folders.remove(state_dir, 7)

    assert temporary_folders.pids(state_dir) == []


def test_folder_of_a_process_that_is_taken_for_dead_is_not_left(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its template was killed: the agent removes what it finds while the process still makes it."""
    make_folder = Path.mkdir

    def mkdir(path: Path, mode: int = 0o777, **options: bool) -> None:
        if path.name.startswith("quakegrid-"):
            temporary_folders.remove(state_dir, os.getpid())
        make_folder(path, mode, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)

    with pytest.raises(FileNotFoundError, match="has done with this process"):
        temporary_folders.make(state_dir)

    assert list((state_dir.parent / "scratch").iterdir()) == []
    assert temporary_folders.pids(state_dir) == []


def test_files_that_come_during_the_removal_go_too(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the dead process had started may still write for a moment."""
    folder = temporary_folders.make(state_dir)
    remove_tree, tries = shutil.rmtree, iter([True, False])

    def rmtree(path: Path) -> None:
        if next(tries, False):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        remove_tree(path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)

    temporary_folders.remove(state_dir, os.getpid())

    assert not folder.exists()
    assert temporary_folders.pids(state_dir) == []


def test_folders_of_other_hosts_are_left_alone(state_dir: Path) -> None:
    """On a disk that machines share their processes may live, whatever the numbers are."""
    folder = temporary_folders.make(state_dir)
    ours = next((state_dir / "tmp").iterdir())
    ours.rename(state_dir / "tmp" / f"elsewhere.{os.getpid()}")

    temporary_folders.remove(state_dir, os.getpid())

    assert folder.exists()
    assert temporary_folders.pids(state_dir) == []
    assert temporary_folders.foreign(state_dir) == [f"elsewhere.{os.getpid()}"]
