"""The files that a driver serves: those of its jobs, and no others, whatever lies behind a path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quakegrid.files import library as libraries
from quakegrid.files.library import Library, RefusedPathError
from quakegrid.files.rules.overlays import Overlay
from quakegrid.files.sources import FileGoneError, LiveSource, WholeSource, opened


@pytest.fixture
def datastore(tmp_path: Path) -> Path:
    """A datastore of the job, with a temporary one beside it."""
    path = tmp_path / "calc_7.hdf5"
    path.write_bytes(b"own")
    (tmp_path / "calc_7_tmp.hdf5").write_bytes(b"temporary")
    (tmp_path / "calc_8.hdf5").write_bytes(b"of another job")
    return path


@pytest.fixture
def library(datastore: Path) -> Library:
    """It has begun a Starmap."""
    found = Library()
    found.begin({str(datastore)}, {str(datastore): WholeSource(b"frozen")})
    return found


def read(library: Library, path: object) -> bytes:
    """All of a file."""
    epoch = library.find(str(path))
    return library.read(epoch.epoch_id, 0, epoch.byte_count)


def test_own_datastore_is_read_as_its_epoch_and_the_others_as_they_are(
    library: Library, datastore: Path
) -> None:
    """The temporary one does not grow."""
    assert read(library, datastore) == b"frozen"
    assert read(library, datastore.with_name("calc_7_tmp.hdf5")) == b"temporary"


@pytest.mark.parametrize("path", ["/etc/passwd", "{}/calc_8.hdf5", "{}", "relative", "", "/a\0b", "{}/../x"])
def test_other_paths_are_refused(library: Library, tmp_path: Path, path: str) -> None:
    """Also where they lead through the folder of the job."""
    with pytest.raises(RefusedPathError):
        library.find(path.format(tmp_path))


def test_link_in_the_folder_of_the_job_is_refused(library: Library, tmp_path: Path) -> None:
    """It has the name of a file of the job, and leads to another."""
    folder = tmp_path / "calc_7"
    folder.mkdir()
    (folder / "1.hdf5").symlink_to("/etc/passwd")
    (tmp_path / "calc_7_tmp.hdf5").unlink()
    (tmp_path / "calc_7_tmp.hdf5").symlink_to(tmp_path / "calc_8.hdf5")

    for path in (folder / "1.hdf5", tmp_path / "calc_7_tmp.hdf5"):
        with pytest.raises(RefusedPathError):
            library.find(str(path))


def test_link_that_takes_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    """Neither of the file itself nor of a folder above it, and nothing but regular files is opened."""
    secret, folder = tmp_path / "secret", tmp_path / "folder"
    secret.mkdir()
    (secret / "x").write_bytes(b"secret")
    folder.symlink_to(secret)
    (tmp_path / "link").symlink_to(secret / "x")
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(FileGoneError), opened(str(folder / "x")):
        pass
    with pytest.raises(OSError, match="symbolic"), opened(str(tmp_path / "link")):
        pass
    with pytest.raises(FileGoneError), opened(str(tmp_path / "pipe")):
        pass


def test_inputs_are_looked_for_once_and_their_hdf5_is_served(library: Library, tmp_path: Path) -> None:
    """When the first path comes that is no datastore."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "ssm.xml").write_bytes(b"<nrml/>")
    (model / "ssm.hdf5").write_bytes(b"ruptures")
    calls: list[int] = []

    def find() -> set[str]:
        calls.append(1)
        return {str(model / "ssm.xml")}

    library.begin((), {}, inputs=find)
    assert calls == []

    assert read(library, model / "ssm.xml") == b"<nrml/>"
    assert read(library, model / "ssm.hdf5") == b"ruptures"
    with pytest.raises(RefusedPathError):
        library.find(str(model / "other.xml"))
    assert calls == [1]


def test_epoch_is_over_when_the_next_begins_unless_its_starmap_is_open(datastore: Path) -> None:
    """A late attempt is told so; its descriptor is closed."""
    library = Library()
    first = WholeSource(b"first")
    with opened(str(datastore)) as fd:
        second = LiveSource(fd, Overlay(), 3)
    library.begin({str(datastore)}, {str(datastore): first})
    library.begin({str(datastore)}, {str(datastore): second}, [first])

    assert library.read(first.epoch_id, 0, 5) == b"first"
    assert library.read(second.epoch_id, 0, 3) == b"own"
    library.begin({str(datastore)}, {str(datastore): WholeSource(b"third")})

    for source in (first, second):
        with pytest.raises(FileGoneError):
            library.read(source.epoch_id, 0, 3)
    with pytest.raises(FileGoneError):
        second.read(0, 3)


def test_file_that_changed_since_it_was_found_has_another_epoch(
    library: Library, datastore: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large files are not copied: bytes of the earlier one are gone, never mixed."""
    monkeypatch.setattr(libraries, "WHOLE_BYTES", 0)
    path = datastore.with_name("calc_7_tmp.hdf5")
    before = library.find(str(path))
    assert library.find(str(path)) == before
    path.write_bytes(b"changed!!")
    os.utime(path, ns=(0, 1))

    after = library.find(str(path))

    assert after.epoch_id != before.epoch_id
    assert library.read(after.epoch_id, 0, 9) == b"changed!!"
    with pytest.raises(FileGoneError):
        library.read(before.epoch_id, 0, 9)


@pytest.mark.parametrize(("offset", "byte_count"), [(-1, 2), (0, 7), (6, 1), (0, -1)])
def test_bytes_outside_of_an_epoch_are_not_read(
    library: Library, datastore: Path, offset: int, byte_count: int
) -> None:
    """Whatever is asked."""
    epoch = library.find(str(datastore))

    with pytest.raises(FileGoneError):
        library.read(epoch.epoch_id, offset, byte_count)


def test_closed_library_serves_nothing(library: Library, datastore: Path) -> None:
    """The session is over."""
    epoch = library.find(str(datastore))
    library.close()

    with pytest.raises(FileGoneError):
        library.read(epoch.epoch_id, 0, 1)
