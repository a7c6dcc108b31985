"""A driver that is stopped, and does not go on, loses its job and holds nothing for ever."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(900)]


def test_stopped_driver_loses_its_job_and_its_workers(cluster: Cluster, slow: Path, quick: Path) -> None:
    """The next job in the queue gets its turn."""
    running = cluster.start("run", "-v", slow)
    running.wait_for("Sent 3 event_based tasks")
    (session,) = cluster.json("status")["sessions"]
    job_id = cluster.job()["id"]

    os.kill(session["pid"], signal.SIGSTOP)
    following = cluster.call("run", quick)
    code, output = running.finish()

    assert following.returncode == 0, following.stderr
    assert code == 1, output
    assert cluster.job(job_id)["state"] == "failed"
    cluster.wait_until_quiet()
