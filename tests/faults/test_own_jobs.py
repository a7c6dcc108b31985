"""Commands of the engine on a cluster with the jobs of two people: -1 is one's own, another's is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.settings import config
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def test_negative_numbers_of_the_engine_are_one_s_own(cluster: Cluster, quick: Path) -> None:
    """Though another person has newer jobs, and upstream takes theirs."""
    ran = cluster.call("run", quick)
    own = cluster.job()["id"]
    with DbClient(config.load_settings(cluster.state_dir, cluster.environ)) as database:
        ended, waiting = (
            database.jobs.create_job(
                data_dir="/nonexistent", calculation_mode="classical", description="hers", user_name="zoe"
            ).id
            for _ in range(2)
        )
        database.jobs.transition(ended, JobState.COMPLETE)

        shown = cluster.call("oq", "show", "contents", "-1")
        listed = cluster.call("oq", "engine", "--list-outputs", "-1")
        started = cluster.call("run", quick, "--hc", "-1")
        again = cluster.job()
        not_aborted = cluster.call("oq", "abort", waiting)
        not_deleted = cluster.call("oq", "engine", "--delete-calculation", ended, "--yes")
        deleted = cluster.call("oq", "engine", "--delete-calculation", "-1", "--yes")
        hers = [database.jobs.get_job(job_id).state for job_id in (ended, waiting)]

    assert ran.returncode == 0, ran.stderr
    assert "sitecol" in shown.stdout, shown.stderr
    assert "hcurves" in listed.stdout.lower() or "Hazard Curves" in listed.stdout, listed.stderr
    assert started.returncode == 0, started.stderr
    assert again["hazard_calculation_id"] == own
    assert f"Job {waiting} belongs to zoe. Abort it?" in not_aborted.stdout
    assert "belongs to zoe" in not_deleted.stdout + not_deleted.stderr
    assert f"Removed {again['id']}" in deleted.stdout, deleted.stderr
    assert hers == [JobState.COMPLETE, JobState.CREATED]
