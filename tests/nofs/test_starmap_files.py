"""When a driver begins epochs, what its tasks are told of them, and which files belong to its jobs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from quakegrid.files.library import Library, RefusedPathError
from quakegrid.files.rules import tables
from quakegrid.files.sources import FileGoneError, LiveSource, WholeSource

with warnings.catch_warnings():  # the engine leaves files open when it is imported
    warnings.simplefilter("ignore", ResourceWarning)
    from openquake.commonlib import datastore

    from quakegrid.engine.files import closures, epochs
    from quakegrid.engine.files.starmap_files import StarmapFiles

pytestmark = pytest.mark.engine

LOGIC_TREE = """<?xml version="1.0" encoding="utf-8"?>
<nrml xmlns="http://openquake.org/xmlns/nrml/0.4"><logicTree logicTreeID="lt1">
<logicTreeBranchSet uncertaintyType="sourceModel" branchSetID="bs1">
<logicTreeBranch branchID="b1"><uncertaintyModel>models/a.xml</uncertaintyModel>
<uncertaintyWeight>1.0</uncertaintyWeight></logicTreeBranch>
</logicTreeBranchSet></logicTree></nrml>
"""


@dataclass
class FakeServer:
    """A file server without a thread."""

    is_wanted: bool = False
    begun_count: int = 0

    def begun(self) -> None:
        """Count."""
        self.begun_count += 1

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Job:
    """A job whose datastore is open for writing."""

    path: Path
    h5: Any
    oqparam: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(hazard_calculation_id=None, inputs={})
    )

    def starmap(self, port: int) -> Any:
        """A Starmap of the job."""
        return SimpleNamespace(socket=SimpleNamespace(port=port), calc_id=7, h5=self.h5)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """A job; its parameters are given by the test."""
    path = tmp_path / "calc_7.hdf5"
    with h5py.File(path, "w", libver="latest") as h5:
        h5["sitecol"] = np.arange(10)
        found = Job(path, h5)
        monkeypatch.setattr(datastore, "get_oq", lambda _h5: found.oqparam)
        yield found


@pytest.fixture
def server() -> FakeServer:
    """Nobody has asked yet."""
    return FakeServer()


@pytest.fixture
def library() -> Library:
    """Nothing is served yet."""
    return Library()


@pytest.fixture
def files(library: Library, server: FakeServer, tmp_path: Path) -> StarmapFiles:
    """Of a session; the database knows the calculation 3 elsewhere, and no other."""
    found = StarmapFiles(lambda calc_id: str(tmp_path / "elsewhere" / "calc_3") if calc_id == 3 else "")
    found.start(library, server)  # type: ignore[arg-type]
    return found


def test_shared_session_says_nothing_and_begins_nothing(
    files: StarmapFiles, library: Library, job: Job
) -> None:
    """Its tasks have an empty field."""
    assert files.for_task(job.starmap(1)) == b""
    files.take_turn()
    assert not library.has_begun


def test_served_session_says_the_same_epoch_to_all_tasks_of_a_starmap(
    files: StarmapFiles, library: Library, server: FakeServer, job: Job
) -> None:
    """A task that comes later, or again, reads what the first one read, whatever was written meanwhile."""
    server.is_wanted = True
    job.path.with_name("calc_7_tmp.hdf5").write_bytes(b"exposure")
    first = files.for_task(job.starmap(1))
    job.h5["later"] = np.arange(1000)
    job.h5.flush()

    assert files.for_task(job.starmap(1)) == first
    assert server.begun_count == 1
    told = tables.load(first)
    assert list(told) == [str(job.path), str(job.path.with_name("calc_7_tmp.hdf5"))]
    epoch = told[str(job.path)]
    content = library.read(epoch.epoch_id, 0, epoch.byte_count)
    with h5py.File(io.BytesIO(content), "r") as seen:
        assert list(seen) == ["sitecol"]


def test_starmap_that_ran_before_a_worker_asked_gets_its_epoch_when_the_driver_waits(
    files: StarmapFiles, library: Library, server: FakeServer, job: Job
) -> None:
    """A node may join in the middle of it."""
    assert files.for_task(job.starmap(1)) == b""
    server.is_wanted = True

    files.take_turn()

    assert library.find(str(job.path)).byte_count > 0
    assert files.for_task(job.starmap(1)) != b""
    assert server.begun_count == 1


def test_epoch_outlives_the_beginning_of_another_starmap_until_its_own_has_ended(
    files: StarmapFiles, library: Library, server: FakeServer, job: Job
) -> None:
    """Then the next beginning ends it."""
    server.is_wanted = True
    first = tables.load(files.for_task(job.starmap(1)))[str(job.path)]
    job.h5["later"] = np.arange(1000)
    second = tables.load(files.for_task(job.starmap(2)))[str(job.path)]
    assert library.read(first.epoch_id, 0, 1) == library.read(second.epoch_id, 0, 1)

    files.end(1)
    files.for_task(job.starmap(3))

    with pytest.raises(FileGoneError):
        library.read(first.epoch_id, 0, 1)
    assert library.read(second.epoch_id, 0, 1)


def test_starmap_without_a_datastore_has_no_epoch(
    files: StarmapFiles, library: Library, server: FakeServer, job: Job
) -> None:
    """Its temporary file is read by no task."""
    server.is_wanted = True
    starmap = job.starmap(1)
    starmap.calc_id = None

    assert files.for_task(starmap) == b""
    assert not library.has_begun


def test_calculations_behind_a_job_are_served_too(
    files: StarmapFiles, library: Library, server: FakeServer, job: Job, tmp_path: Path
) -> None:
    """Where the database says, else beside the job; no other calculation is."""
    server.is_wanted = True
    (tmp_path / "elsewhere").mkdir()
    parent = tmp_path / "elsewhere" / "calc_3.hdf5"
    with h5py.File(parent, "w") as h5:
        h5["x"] = 1
    (tmp_path / "calc_4.hdf5").write_bytes(b"of another job")
    job.oqparam.hazard_calculation_id = 3

    told = tables.load(files.for_task(job.starmap(1)))

    assert str(parent) in told
    with pytest.raises(RefusedPathError):
        library.find(str(tmp_path / "calc_4.hdf5"))
    job.oqparam.hazard_calculation_id = 4
    assert str(tmp_path / "calc_4.hdf5") in list(closures.parents(job.h5, lambda _: ""))
    job.oqparam.hazard_calculation_id = str(parent)
    assert next(closures.parents(job.h5, lambda _: "")) == str(parent)


def test_source_models_of_the_logic_tree_are_inputs(
    files: StarmapFiles, library: Library, server: FakeServer, job: Job, tmp_path: Path
) -> None:
    """And what the parameters name; files beside them are not."""
    server.is_wanted = True
    folder = tmp_path / "model"
    (folder / "models").mkdir(parents=True)
    (folder / "lt.xml").write_text(LOGIC_TREE)
    for name in ("models/a.xml", "models/a.hdf5", "models/b.xml", "vulnerability.xml"):
        (folder / name).write_text(name)
    job.oqparam.inputs = {
        "source_model_logic_tree": str(folder / "lt.xml"),
        "exposure": [str(folder / "vulnerability.xml")],
        "broken": {"x": (str(folder / "missing.xml"), 7)},
    }
    files.for_task(job.starmap(1))

    for name in ("lt.xml", "models/a.xml", "models/a.hdf5", "vulnerability.xml"):
        assert library.find(str(folder / name)).byte_count > 0
    with pytest.raises(RefusedPathError):
        library.find(str(folder / "models" / "b.xml"))
    with pytest.raises(FileNotFoundError):
        library.find(str(folder / "missing.xml"))


def test_large_datastore_is_not_copied(job: Job) -> None:
    """Its metadata are, which is a small part of it."""
    job.h5["large"] = np.arange(1_000_000)
    _, whole = epochs.make(job.h5)
    _, live = epochs.make(job.h5, whole_bytes=0)

    assert isinstance(whole, WholeSource)
    assert isinstance(live, LiveSource)
    assert live.byte_count == whole.byte_count
    assert sum(len(part) for _, part in live.copied()) < live.byte_count / 100
    live.close()


def test_datastore_that_is_not_where_it_was_has_no_epoch(
    files: StarmapFiles, server: FakeServer, job: Job
) -> None:
    """Its tasks would find nothing; the calculation says so itself."""
    server.is_wanted = True
    job.path.rename(job.path.with_name("moved.hdf5"))

    assert files.for_task(job.starmap(1)) == b""
    files.close()
