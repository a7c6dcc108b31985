"""`--notify`: the end of a job is told by a child that outlives its driver, whatever became of that."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from tests.support.clusters import Cluster, wait_for_end

TIMEOUT_S = 120.0


def told(path: Path) -> dict[str, Any]:
    """What a command wrote; waits for it. The command moves the file to its place when it is whole."""
    end_s = time.monotonic() + TIMEOUT_S
    while not path.exists():
        assert time.monotonic() < end_s, "nobody was told"
        time.sleep(0.01)
    document = json.loads(path.read_bytes())
    assert isinstance(document, dict)
    return document


def writing(path: Path) -> str:
    """A command that writes what it is told."""
    return f"cat > {path}.part && mv {path}.part {path}"


def test_end_is_told_and_failures_are_in_the_log(cluster: Cluster, quick: Path, tmp_path: Path) -> None:
    """All targets are told, each by itself; the job is as complete as without them."""
    out = tmp_path / "told"
    failing = "echo no mail today; exit 7"

    done = cluster.call("run", "--detach", "--notify", failing, "--notify", writing(out), quick)

    job_id = int(done.stdout)
    document = told(out)
    assert (document["id"], document["state"], document["exit_code"]) == (job_id, "complete", 0)
    assert document["event"] == "job_ended"
    cluster.wait_until_quiet()
    assert "it ended with exit code 7: no mail today" in cluster.log(job_id)
    assert cluster.job(job_id)["state"] == "complete"


def test_end_of_a_job_whose_driver_was_killed_is_told(cluster: Cluster, slow: Path, tmp_path: Path) -> None:
    """By whom the agent forks for it, when the job is marked as failed."""
    out = tmp_path / "told"
    done = cluster.call("run", "--detach", "--notify", writing(out), slow)
    job_id = int(done.stdout)
    [session] = [each for each in cluster.json("status")["sessions"] if job_id in each["job_ids"]]

    os.kill(session["pid"], signal.SIGKILL)
    wait_for_end(session["pid"])

    document = told(out)
    assert (document["id"], document["state"], document["exit_code"]) == (job_id, "failed", 1)
    assert document["state_reason"]
    cluster.wait_until_quiet()


def test_wrong_targets_are_refused(cluster: Cluster, quick: Path) -> None:
    """Before anything starts."""
    done = cluster.call("run", "--notify", "https://", quick)

    assert (done.returncode, done.stdout) == (2, "")
    assert "is no URL" in done.stderr
