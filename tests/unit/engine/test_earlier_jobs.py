"""Calculations that start from one that failed or was aborted."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.engine.driver import earlier_jobs


def test_failed_parent_with_a_datastore_is_a_warning(tmp_path: Path) -> None:
    """The engine uses what there is, as upstream does."""
    path = tmp_path / "calc_22.hdf5"
    path.touch()

    assert earlier_jobs.doubt(22, "failed", path).startswith("job 22 is failed, so")
    assert earlier_jobs.doubt(22, "aborted", path).startswith("job 22 is aborted, so")
    assert not earlier_jobs.doubt(22, "complete", path)


@pytest.mark.parametrize(("status", "words"), [("failed", "failed"), ("aborted", "was aborted")])
def test_failed_parent_without_a_datastore_is_refused(tmp_path: Path, status: str, words: str) -> None:
    """There is nothing to start from."""
    with pytest.raises(errors.StateError, match=f"job 22 {words} and has no results to start from"):
        earlier_jobs.doubt(22, status, tmp_path / "calc_22.hdf5")


def test_only_own_calculations_of_a_folder_are_counted(tmp_path: Path) -> None:
    """In a folder of several people, and for whatever else lies there."""
    for name in ("calc_50.hdf5", "calc_2.hdf5", "cache_2.hdf5", "calc_7.hdf5", "calc_9_tmp.hdf5", "notes"):
        (tmp_path / name).touch()

    assert earlier_jobs.own_ids(tmp_path, [9, 2, 50]) == [2, 50]
    assert earlier_jobs.own_ids(tmp_path / "none", [2]) == []


def test_recorded_outcomes_of_a_failed_parent_are_told(tmp_path: Path) -> None:
    """With the command that completes it, also where its datastore is gone."""
    path = tmp_path / "calc_22.hdf5"
    words = r"\. 40 of its tasks were done and need not be computed again: `quakegrid resume 22` completes it"

    with pytest.raises(errors.StateError, match=words):
        earlier_jobs.doubt(22, "failed", path, 40)
    path.touch()
    assert ". 1 of its tasks was done and need not be" in earlier_jobs.doubt(22, "aborted", path, 1)
    assert "resume" not in earlier_jobs.doubt(22, "failed", path)
    assert not earlier_jobs.doubt(22, "complete", path, 40)
