"""A service dies in the middle of a calculation: its job ends with a reason, `up` mends the cluster."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
WORKING = "Sent 3 event_based tasks"


def test_interrupt_while_the_engine_loads_runs_nothing(cluster: Cluster, quick: Path) -> None:
    """The first calculation of the day may be stopped, too."""
    jobs = cluster.json("jobs", "list")
    kill(cluster, "template")
    while cluster.json("status")["nodes"][0]["state"] == "warm":
        pass  # each question takes a while, loading takes longer
    running = cluster.start("run", quick)
    running.wait_for("engine is being loaded")

    running.process.send_signal(signal.SIGINT)
    code, output = running.finish()

    assert code == 4, output
    cluster.wait_until_quiet()
    assert cluster.json("jobs", "list") == jobs


def kill(cluster: Cluster, victim: str) -> None:
    """Kill a service, or a child of one that has no record; wait for what ends with it."""
    if victim == "template":
        os.kill(cluster.template(), signal.SIGKILL)
        return
    cluster.kill_service(victim)


def test_broker_killed_in_a_calculation_and_started_again(cluster: Cluster, medium: Path) -> None:
    """It keeps nothing that driver, workers and agents cannot tell the next one: the job completes."""
    running = cluster.start("run", "-v", medium)
    running.wait_for(WORKING)
    (before,) = cluster.json("status")["sessions"]
    workers = cluster.children()

    kill(cluster, "broker")
    again = cluster.call("up")
    code, output = running.finish()

    assert again.returncode == 0, again.stderr
    assert code == 0, output
    assert before["worker_count"] > 0
    assert len(workers) > before["worker_count"]
    assert cluster.job()["state"] == "complete"
    cluster.wait_until_quiet()


@pytest.mark.parametrize(
    ("victim", "reason"),
    [
        ("template", "ended before its calculation did"),
        ("agent", "ended before its calculation did"),
    ],
)
def test_service_killed_in_a_calculation(
    cluster: Cluster, slow: Path, quick: Path, victim: str, reason: str
) -> None:
    """The job is `failed`, its log says why, no process is left; the next calculation is fine."""
    running = cluster.start("run", "-v", slow)
    running.wait_for(WORKING)
    files = cluster.temporary_files()

    kill(cluster, victim)
    code, output = running.finish()
    again = cluster.call("up")  # a new broker stops the workers that its predecessor left
    job = cluster.ended_job()
    cluster.wait_until_quiet()
    following = cluster.call("run", quick)

    assert code in {1, 3}, output
    assert again.returncode == 0, again.stderr
    assert job["state"] == "failed"
    assert reason in cluster.log(job["id"])
    assert not set(files) & set(cluster.temporary_files())
    assert files
    assert following.returncode == 0, following.stderr
