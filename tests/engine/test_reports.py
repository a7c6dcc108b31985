"""A report of a real calculation, by its job id."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid import testing
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_report_of_a_calculation_names_its_operations(cluster: Cluster, tmp_path: Path) -> None:
    """Found by job id, also as the last job; a job that is not there is said to be unknown."""
    job_ini = testing.copy_engine_case("event_based/case_6", tmp_path / "case") / "job.ini"
    done = cluster.call("run", job_ini)
    assert done.returncode == 0, done.stderr
    job_id = cluster.job()["id"]

    found = cluster.json("report", job_id)

    assert found["job_ids"] == [job_id]
    assert "event_based" in [each["operation"] for each in found["operations"]]
    assert found["task_count"] >= 3
    assert found["used_s"] > 0
    explained = cluster.call("explain", "-1")
    assert explained.returncode == 0, explained.stderr
    assert "of the cores' time made results" in explained.stdout
    unknown = cluster.call("report", job_id + 1000)
    assert unknown.returncode == 1
    assert str(job_id + 1000) in unknown.stderr
