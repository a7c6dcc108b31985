"""`quakegrid resume`: what it refuses, what damage to a journal costs, and that the numbers are the same."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.engine.cases import Case
from tests.engine.exports import find_differences
from tests.faults.resume import killing
from tests.faults.resume.killing import Watched
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
CASE = Case("event_based/case_6")
# Nine tasks, of some seconds together.
SMALL = ("-p", "ses_per_logic_tree_path=20")


def killed(cluster: Cluster, folder: Path, outcome_count: int) -> Watched:
    """A calculation whose driver was killed when it had so many outcomes; nobody goes on with it."""
    watched = killing.start(cluster, CASE, folder, *SMALL)
    assert watched.wait_for(outcome_count)
    watched.kill("driver")
    code, output = watched.finish()
    assert code == 1, output
    return watched


def refusal(cluster: Cluster, job_id: int) -> str:
    """Why a job is not resumed."""
    done = cluster.call("resume", job_id)
    assert done.returncode == 1, done.stdout
    return done.stderr


def test_killed_calculation_is_resumed(cluster: Cluster, tmp_path: Path) -> None:
    """Under its id, with the same numbers, from what is whole of its journal; refused while that is wrong."""
    killing.undisturbed_count(cluster, CASE, tmp_path / "whole", *SMALL)
    watched = killed(cluster, tmp_path / "killed", 5)
    job_id, journal = watched.job_id, killing.journal_of(cluster, watched.job_id)

    model = tmp_path / "killed" / "inputs" / "source_model1.xml"
    text = model.read_text(encoding="utf-8")
    model.write_text(text.replace("<", " <", 1), encoding="utf-8")
    assert f"the input {model} has changed" in refusal(cluster, job_id)
    assert cluster.job(job_id)["state"] == "failed"
    model.write_text(text, encoding="utf-8")
    with journal.open("r+b") as file:  # a byte of the last outcome, and a torn end
        file.seek(-10, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-10, os.SEEK_END)
        file.write(bytes([byte ^ 4]))
        file.seek(0, os.SEEK_END)
        file.write(b"QGJ1 torn")
    whole_count = killing.outcome_count(watched.fd)
    assert whole_count >= 4

    resumed = cluster.start("resume", job_id, "-v")
    seen = resumed.wait_for("outcomes of the earlier run were taken from its journal")
    assert f"{whole_count} outcomes of the earlier run" in seen
    if resumed.process.poll() is None and not watched.is_over():
        assert "is at work: its driver runs" in refusal(cluster, job_id)
    code, output = resumed.finish()

    assert code == 0, output
    job = cluster.job(job_id)
    assert (job["state"], job["resume_count"]) == ("complete", 1)
    assert find_differences(tmp_path / "whole" / "exports", tmp_path / "killed" / "exports") == []
    outputs = [output["ds_key"] for output in cluster.json("jobs", "outputs", job_id)]
    assert len(outputs) == len(set(outputs))
    assert "no journal of job" in refusal(cluster, job_id)
    assert not journal.exists()


@pytest.mark.full
def test_resume_finds_every_reason_against_it(cluster: Cluster, tmp_path: Path) -> None:
    """A job that is deleted, one that waits, another machine's; `--anyway` computes all of it anew."""
    killing.undisturbed_count(cluster, CASE, tmp_path / "whole", *SMALL)
    watched = killed(cluster, tmp_path / "killed", 5)
    model = tmp_path / "killed" / "inputs" / "source_model1.xml"
    model.write_text(model.read_text(encoding="utf-8") + "\n", encoding="utf-8")

    assert "With --anyway all of it is computed anew" in refusal(cluster, watched.job_id)
    done = cluster.call("resume", watched.job_id, "--anyway", "-v")

    assert done.returncode == 0, done.stderr
    assert "nothing of its journal is used" in cluster.log(watched.job_id)
    assert "were taken from its journal" not in cluster.log(watched.job_id)
    assert find_differences(tmp_path / "whole" / "exports", tmp_path / "killed" / "exports") == []

    deleted = killed(cluster, tmp_path / "deleted", 2)
    assert cluster.call("jobs", "delete", deleted.job_id, "--yes").returncode == 0
    assert "there is no job" in refusal(cluster, deleted.job_id)
    assert "no journal of job 999999 here" in refusal(cluster, 999999)


@pytest.mark.full
def test_aborted_calculation_is_resumed_if_somebody_asks(cluster: Cluster, tmp_path: Path) -> None:
    """A change of mind costs little."""
    watched = killing.start(cluster, CASE, tmp_path / "case", *SMALL)
    assert watched.wait_for(3)
    watched.running.process.send_signal(signal.SIGINT)
    assert watched.finish()[0] == 4

    done = cluster.call("resume", watched.job_id, "--detach")

    assert done.returncode == 0, done.stderr
    killing.wait_until_complete(cluster, watched.job_id)
