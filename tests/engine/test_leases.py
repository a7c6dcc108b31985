"""A driver of a real calculation holds the lease of its job."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.settings import config
from tests.engine.cases import Case, prepare
from tests.engine.conftest import run_job
from tests.engine.plain_runs import TIMEOUT_S
from tests.support.clusters import Cluster

pytestmark = pytest.mark.engine


def test_running_job_is_leased_and_an_ended_one_is_not(cluster: Cluster, tmp_path: Path) -> None:
    """The lease is there while the driver works, names it, and goes with the job."""
    (job,) = prepare(Case("classical/case_01"), tmp_path / "case")
    runner = threading.Thread(target=run_job, args=(cluster, job))
    settings = config.load_settings(cluster.state_dir, cluster.environ)
    query = "SELECT holder, lease_s FROM quakegrid_lease"

    with DbClient(settings) as client:
        runner.start()
        end_s = time.monotonic() + TIMEOUT_S
        while not len(leases := client.call(query)):
            assert time.monotonic() < end_s
        runner.join()

        assert leases[0]["holder"].split("/")[1].isdigit()
        assert leases[0]["lease_s"] == 30.0
        assert len(client.call(query)) == 0
