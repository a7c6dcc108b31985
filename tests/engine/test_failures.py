"""A task that fails for a file which its node does not see says that, and what to mount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.engine


def failure_of(read: Any) -> BaseException:
    """What a driver raises for a task that failed like this on another node."""
    from openquake.baselib import parallel
    from openquake.baselib.performance import Monitor

    from quakegrid.engine import failures

    result = failures.with_missing_mount(parallel.Result.new(read, (), Monitor("task")))
    try:
        result.get()
    except Exception as exc:  # noqa: BLE001 - any
        return exc
    raise AssertionError("it did not fail")


def datastore(path: Path) -> None:
    """As the engine's tasks begin."""
    from openquake.commonlib import datastore

    datastore.DataStore(str(path), mode="r")


def hdf5(path: Path) -> None:
    """As h5py says it."""
    from openquake.baselib import hdf5

    hdf5.File(str(path), "r")


@pytest.mark.parametrize("read", [datastore, hdf5, Path.read_text])
@pytest.mark.parametrize(
    ("shared_dir", "remedy"),
    [
        ("{folder}", "shared_dir {folder} must be mounted there"),
        ("/elsewhere", "it must lie in shared_dir /elsewhere, which all nodes see"),
        ("", "[directory] shared_dir must name a folder that is mounted on all nodes"),
    ],
)
def test_missing_file_is_told_with_its_node(
    read: Any, shared_dir: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever raised it, in whatever words."""
    import socket

    from openquake.baselib import config

    from quakegrid.engine import failures

    path = tmp_path / "my oqdata" / "calc_7.hdf5"
    monkeypatch.setitem(config.directory, "shared_dir", shared_dir.format(folder=tmp_path))

    told = failures.one_line(failure_of(lambda: read(path)))

    assert told.startswith(f"node {socket.gethostname()} does not see {path}: ")
    assert remedy.format(folder=tmp_path) in told


def test_other_failures_stay_as_they_are(tmp_path: Path) -> None:
    """Of files that are there, and of anything else."""
    path = tmp_path / "calc_7.hdf5"
    path.write_text("no HDF5")

    assert "does not see" not in str(failure_of(lambda: hdf5(path)))
    assert type(failure_of(lambda: 1 / 0)) is ZeroDivisionError
