"""Calculations whose machine loses power, or whose agent is restarted or upgraded, go on by themselves."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import pytest

from quakegrid import testing
from tests.engine.cases import Case
from tests.engine.exports import find_differences
from tests.faults.resume import killing
from tests.support.clusters import Cluster, Running
from tests.support.releases import make_release

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(900)]
CASE = Case("event_based/case_6")
# Nine tasks, some of which take a second or two.
OPTIONS = ("-p", "ses_per_logic_tree_path=10")


@pytest.fixture(scope="module")
def expected(auto: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the calculation exports undisturbed."""
    folder = tmp_path_factory.mktemp("whole") / "case"
    killing.undisturbed_count(auto, CASE, folder, *OPTIONS)
    return folder / "exports"


def waiting(cluster: Cluster, folder: Path) -> Running:
    """A calculation that waits for its turn."""
    job_ini = testing.copy_engine_case("classical/case_01", folder) / "job.ini"
    running = cluster.start("run", job_ini, "--exports", "csv", "--export-dir", folder / "exports")
    running.wait_for("waiting for job")
    return running


def test_master_that_reboots_goes_on_with_all_jobs_in_their_order(
    auto: Cluster, expected: Path, tmp_path: Path
) -> None:
    """One that executed, and three that waited for their turn; nobody asks for it."""
    watched = killing.start(auto, CASE, tmp_path / "first", *OPTIONS)
    assert watched.wait_for(3)
    others = [waiting(auto, tmp_path / name) for name in ("second", "third", "fourth")]

    auto.lose_power()
    for running in (watched.running, *others):
        running.finish()
    up = auto.call("up")

    assert up.returncode == 0, up.stderr
    ids = [watched.job_id + number for number in range(4)]
    for job_id in ids:
        killing.wait_until_complete(auto, job_id)
    jobs = [auto.job(job_id) for job_id in ids]
    assert [job["resume_count"] for job in jobs] == [1, 1, 1, 1]
    assert [job["replayed_count"] >= 3 for job in jobs] == [True, False, False, False]
    starts = [job["start_time"] for job in jobs]
    assert starts == sorted(starts)
    assert find_differences(expected, tmp_path / "first" / "exports") == []
    assert find_differences(tmp_path / "second" / "exports", tmp_path / "fourth" / "exports") == []


def restarted(cluster: Cluster, folder: Path, next_one: Cluster) -> int:
    """A calculation during which the agent is told to end, and another one is started; it is complete."""
    watched = killing.start(cluster, CASE, folder, *OPTIONS)
    assert watched.wait_for(3)

    cluster.kill_service("agent", signal.SIGTERM)
    watched.finish()
    up = next_one.call("up")

    assert up.returncode == 0, up.stderr
    killing.wait_until_complete(cluster, watched.job_id)
    assert cluster.job(watched.job_id)["resume_count"] == 1
    return watched.job_id


def test_agent_is_restarted_while_a_driver_runs_on_its_node(
    auto: Cluster, expected: Path, tmp_path: Path
) -> None:
    """The calculation goes on with the next agent; nothing that was recorded is computed again."""
    job_id = restarted(auto, tmp_path / "case", auto)

    assert auto.job(job_id)["replayed_count"] >= 3
    assert "outcomes of the earlier run were taken from its journal" in auto.log(job_id)
    assert find_differences(expected, tmp_path / "case" / "exports") == []


def test_agent_is_upgraded_while_a_driver_runs_on_its_node(
    auto: Cluster, expected: Path, tmp_path: Path
) -> None:
    """The calculation goes on with the next release, which believes nothing of the journal, and says so."""
    release = make_release(tmp_path / "newer")
    newer = dataclasses.replace(auto, environ=auto.environ | {"PYTHONPATH": str(release)})
    try:
        job_id = restarted(auto, tmp_path / "case", newer)
    finally:
        auto.kill_service("agent", signal.SIGTERM)
        up = auto.call("up")

    assert up.returncode == 0, up.stderr
    assert auto.job(job_id)["replayed_count"] == 0
    assert "nothing of its journal is used: " in auto.log(job_id)
    assert find_differences(expected, tmp_path / "case" / "exports") == []
