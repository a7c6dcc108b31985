"""Which files belong to a job; tables of epochs."""

from __future__ import annotations

import pytest

from quakegrid.files.rules import tables
from quakegrid.files.rules.job_paths import JobPaths, is_below
from quakegrid.files.rules.tables import FileEpoch

PATHS = JobPaths(frozenset({"/data/anna/calc_7.hdf5"}), frozenset({"/models/ssm.xml", "/models/old.nrml"}))


@pytest.mark.parametrize(
    "path",
    [
        "/data/anna/calc_7.hdf5",
        "/data/anna/calc_7_tmp.hdf5",
        "/data/anna/calc_7/1.hdf5",
        "/models/ssm.xml",
        "/models/ssm.hdf5",
        "/models/old.hdf5",
    ],
)
def test_file_of_the_job_belongs_to_it(path: str) -> None:
    """Its datastore and what lies beside it; its inputs and their HDF5 files."""
    assert PATHS.has(path)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/data/anna/calc_8.hdf5",
        "/data/anna/calc_77.hdf5",
        "/data/anna/calc_7_tmp_tmp.hdf5",
        "/data/anna/calc_7/deeper/1.hdf5",
        "/data/anna/calc_7/1.csv",
        "/data/anna/calc_7",
        "/models/other.xml",
        "/models/ssm.csv",
        "/models",
        "",
        "/",
    ],
)
def test_other_file_does_not_belong_to_the_job(path: str) -> None:
    """Nothing else does, however near."""
    assert not PATHS.has(path)


def test_paths_are_extended_by_parents_and_inputs() -> None:
    """Those of before stay."""
    more = PATHS.extended(["/data/anna/calc_3.hdf5"], ["/models/b.xml"])

    assert more.has("/data/anna/calc_3_tmp.hdf5")
    assert more.has("/models/b.xml")
    assert more.has("/data/anna/calc_7.hdf5")


def test_path_is_below_a_folder_and_not_below_one_with_a_longer_name() -> None:
    """Names are compared whole."""
    assert is_below("/shared/anna/x", ["/shared"])
    assert is_below("/shared", ["/shared/"])
    assert is_below("/x", ["/"])
    assert not is_below("/shared2/x", ["/shared"])
    assert not is_below("/shared", [])


def test_table_of_epochs_is_read_as_it_was_written() -> None:
    """With any name and any size."""
    epochs = [
        FileEpoch("/data/calc_7.hdf5", bytes(range(16)), 1 << 40),
        FileEpoch("/d\udcff/\u00e4.hdf5", b"\0" * 16, 0),
    ]

    assert list(tables.load(tables.dump(epochs)).values()) == epochs
    assert tables.load(b"") == {}
