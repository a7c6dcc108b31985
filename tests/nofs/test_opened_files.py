"""What a worker that does not see its job's files opens: the driver's, never stale ones of its node."""

# ruff: noqa: PTH110 - the engine calls this function
from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import xxhash

from quakegrid.files import block_stores
from quakegrid.files.reader import FileReader, RefusedFileError
from quakegrid.files.rules import tables
from quakegrid.files.rules.tables import FileEpoch
from quakegrid.files.sources import FileGoneError

with warnings.catch_warnings():  # the engine leaves files open when it is imported
    warnings.simplefilter("ignore", ResourceWarning)
    from openquake.baselib import hdf5
    from openquake.hazardlib import nrml

    from quakegrid.engine.files import opened_files
    from quakegrid.engine.files.opened_files import OpenedFiles

pytestmark = pytest.mark.engine
XML = b'<?xml version="1.0" encoding="utf-8"?><nrml xmlns="http://openquake.org/xmlns/nrml/0.5"><x/></nrml>'


class Driver(FileReader):
    """A driver that has some files; counts what it is asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.read_count = 0

    def find(self, path: str) -> FileEpoch | None:
        """The epoch of a file; datastores of other jobs are refused."""
        self.asked.append(path)
        if "calc_8" in path:
            raise RefusedFileError(13, "refused", path)
        return self.epoch(path) if path in self.files else None

    def epoch(self, path: str) -> FileEpoch:
        """As the tasks of a Starmap are told."""
        content = self.files[path]
        return FileEpoch(path, xxhash.xxh3_128_digest(content), len(content))

    def read(self, epoch_id: bytes, offset: int, byte_count: int) -> memoryview:
        """Bytes of an epoch."""
        self.read_count += 1
        for content in self.files.values():
            if xxhash.xxh3_128_digest(content) == epoch_id:
                return memoryview(content)[offset : offset + byte_count]
        raise FileGoneError


class Worker:
    """The process of a worker, with its hooks in place."""

    def __init__(self, root: Path) -> None:
        self.datadir, self.models = root / "oqdata", root / "models"
        self.shared, self.own, self.blobs = root / "shared", root / "own", root / "blobs"
        for folder in (self.datadir, self.models, self.shared, self.own, self.blobs):
            folder.mkdir()
        self.driver = Driver()
        stores = (self.blobs / "files", self.own / "files")
        self.files = OpenedFiles(lambda: self.driver, (str(self.shared),), str(self.own), stores)
        self.files.add_roots([str(self.datadir)])

    def give(self, path: Path, number: int) -> None:
        """The driver has a datastore there."""
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as h5:
            h5["x"] = np.full(1000, number)
        self.driver.files[str(path)] = buffer.getvalue()

    def read(self, path: Path) -> int:
        """As a task of the engine does."""
        with hdf5.File(str(path), "r") as h5:
            assert h5.filename == str(path)
            return int(h5["x"][0])


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Its hooks are gone after the test; it keeps blocks, however full the disk of this machine is."""
    monkeypatch.setattr(block_stores, "FREE_PART", 0.0)
    monkeypatch.setattr(h5py.File, "__init__", h5py.File.__init__)
    monkeypatch.setattr(os.path, "exists", os.path.exists)
    monkeypatch.setattr(nrml, "read", nrml.read)
    worker = Worker(tmp_path)
    opened_files.install(worker.files)
    return worker


def test_datastore_of_the_driver_is_read_in_place_of_a_stale_one(worker: Worker) -> None:
    """Of the same name at the same path."""
    path = worker.datadir / "calc_7.hdf5"
    with h5py.File(path, "w") as stale:
        stale["x"] = np.zeros(1000)
    worker.give(path, 7)

    assert worker.read(path) == 7
    assert os.path.exists(path) is True
    with pytest.raises(FileNotFoundError, match="no such file"):
        worker.read(worker.datadir / "calc_7_tmp.hdf5")
    assert os.path.exists(str(worker.datadir / "calc_7_tmp.hdf5")) is False
    assert os.path.exists(str(worker.datadir)) is True


def test_file_of_another_job_is_refused(worker: Worker) -> None:
    """Also if this node has one there."""
    path = worker.datadir / "calc_8.hdf5"
    path.write_bytes(b"stale")

    assert os.path.exists(str(path)) is False
    with pytest.raises(PermissionError):
        worker.read(path)


def test_files_that_this_node_shares_or_has_by_itself_are_opened_there(worker: Worker) -> None:
    """The driver is not asked for them; a link that leads out of a shared folder is another matter."""
    for folder in (worker.shared, worker.own):
        with h5py.File(folder / "calc_7.hdf5", "w") as h5:
            h5["x"] = np.full(3, 5)
        worker.files.add_roots([str(folder)])
        assert worker.read(folder / "calc_7.hdf5") == 5
    assert worker.driver.asked == []
    (worker.shared / "link").symlink_to(worker.datadir)
    worker.give(worker.shared / "link" / "calc_7.hdf5", 9)

    assert worker.read(worker.shared / "link" / "calc_7.hdf5") == 9


def test_task_that_is_told_its_epochs_asks_for_none(worker: Worker) -> None:
    """Each Starmap reads its own; blocks of the one before are removed."""
    path = worker.datadir / "calc_7.hdf5"
    for number in (1, 2):
        worker.give(path, number)
        table = tables.dump([worker.driver.epoch(str(path))])
        for _ in range(3):
            worker.files.begin_task(table)
            assert worker.read(path) == number

    assert worker.driver.asked == []
    assert worker.driver.read_count == 2
    assert len(list((worker.blobs / "files").iterdir())) == 2


def test_without_a_table_each_task_asks_anew(worker: Worker) -> None:
    """The driver begins an epoch in the middle of a Starmap only."""
    path = worker.datadir / "calc_7.hdf5"
    for number in (1, 2):
        worker.give(path, number)
        worker.files.begin_task(b"")
        assert worker.read(path) == worker.read(path) == number

    assert worker.driver.asked == [str(path)] * 2


def test_epoch_that_is_over_is_an_error_of_the_file(worker: Worker) -> None:
    """Its outcome is nobody's."""
    path = worker.datadir / "calc_7.hdf5"
    worker.give(path, 1)
    worker.files.begin_task(tables.dump([worker.driver.epoch(str(path))]))
    worker.give(path, 2)

    with pytest.raises(OSError, match="cannot be read any more"):
        worker.read(path)


def test_source_model_of_the_driver_is_read_and_so_is_the_hdf5_beside_it(worker: Worker) -> None:
    """In place of stale ones; a model in the process's own folder is read there."""
    path, beside = worker.models / "ssm.xml", worker.models / "ssm.hdf5"
    path.write_bytes(b"stale")
    beside.write_bytes(b"stale")
    (worker.own / "made.xml").write_bytes(XML)
    worker.driver.files[str(path)] = XML
    worker.give(beside, 3)

    assert nrml.read(str(path)).tag.endswith("nrml")
    assert worker.read(beside) == 3
    assert os.path.exists(str(beside)) is True
    assert nrml.read(str(worker.own / "made.xml")).tag.endswith("nrml")
    assert worker.driver.asked == [str(path), str(beside)]
    assert nrml.read(io.BytesIO(XML)).tag.endswith("nrml")


def test_other_paths_are_left_alone(worker: Worker, tmp_path: Path) -> None:
    """Those of this node, and those that are opened for writing."""
    with h5py.File(tmp_path / "local.hdf5", "w") as h5:
        h5["x"] = np.full(3, 4)

    assert worker.read(tmp_path / "local.hdf5") == 4
    assert os.path.exists("/etc/passwd")
    assert not os.path.exists("/no/such")
    assert not worker.files.is_served(7)
    assert not worker.files.is_served("relative")
    assert worker.driver.asked == []


def test_worker_has_a_bounded_number_of_epochs_open(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is closed, and opened again when it is wanted."""
    monkeypatch.setattr(opened_files, "MOST_OPEN", 2)
    paths = [worker.datadir / "calc_7" / f"{number}.hdf5" for number in range(5)]
    for number, path in enumerate(paths):
        worker.give(path, number)

    assert [worker.read(path) for path in paths] == [0, 1, 2, 3, 4]
    assert worker.read(paths[0]) == 0
    assert worker.driver.read_count == len(paths)
