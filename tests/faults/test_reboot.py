"""Everything is gone at once, as when a machine loses power, while jobs execute and wait."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.clusters import running_cluster

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(900)]
# A driver's lease, and the dbserver's next look at it.
ENDED_S = 40.0


def test_reboot_ends_what_executed_and_what_waited(
    tmp_path_factory: pytest.TempPathFactory, slow: Path, quick: Path
) -> None:
    """No job stays `executing` or `submitted` without a driver, and the next one runs."""
    with running_cluster(tmp_path_factory.mktemp("reboot"), tmp_path_factory.mktemp("home")) as cluster:
        first = cluster.start("run", "-v", slow)
        first.wait_for("Sent 3 event_based tasks")
        second = cluster.start("run", quick)
        second.wait_for("waiting for job")

        cluster.lose_power()
        first.finish()
        second.finish()
        start_s = time.monotonic()
        again = cluster.call("up")
        while any(job["state"] in ("executing", "submitted") for job in cluster.json("jobs", "list")):
            assert time.monotonic() - start_s < ENDED_S
        following = cluster.call("run", quick)

        assert again.returncode == 0, again.stderr
        assert following.returncode == 0, following.stderr
        assert [job["state"] for job in cluster.json("jobs", "list")] == ["complete", "failed", "failed"]
