"""A driver that is killed when one of its calculations is complete, or all of them are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.cases import Case
from tests.engine.exports import find_differences
from tests.faults.resume import killing
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
HAZARD_AND_RISK = Case("classical_risk/case_4", ("job_haz.ini", "job_risk.ini"))
SMALL = ("-p", "width_of_mfd_bin=0.5")


def test_run_goes_on_with_its_second_calculation(auto: Cluster, tmp_path: Path) -> None:
    """The first one is complete, and has no journal any more; the command line tells how both ended."""
    killing.undisturbed_count(auto, HAZARD_AND_RISK, tmp_path / "whole", *SMALL)
    watched = killing.start(auto, HAZARD_AND_RISK, tmp_path / "killed", *SMALL)
    second_id = watched.job_id + 1
    assert killing.wait_until_there(watched.is_over, lambda: watched.running.process.poll() is not None)
    watched.kill("driver")

    code, output = watched.finish()

    assert code == 0, output
    for job_id in (watched.job_id, second_id):
        assert f"job {job_id} complete" in output
        assert auto.job(job_id)["state"] == "complete"
        assert not killing.journal_of(auto, job_id).exists()
    assert find_differences(tmp_path / "whole" / "exports", tmp_path / "killed" / "exports") == []


def test_driver_that_dies_after_its_work_has_done_it(auto: Cluster, tmp_path: Path) -> None:
    """Its calculation is complete, so the command line ends well."""
    case = Case("classical/case_01")
    watched = killing.start(auto, case, tmp_path / "killed")
    assert killing.wait_until_there(watched.is_over, lambda: watched.running.process.poll() is not None)
    watched.kill("driver")

    code, output = watched.finish()

    assert (code, auto.job(watched.job_id)["state"]) == (0, "complete"), output
    assert f"job {watched.job_id} complete" in output
