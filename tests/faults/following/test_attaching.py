"""`quakegrid attach`: a calculation is followed again, by somebody who did not start it here."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.following.terminals import CTRL_C, at_terminal
from tests.support.clusters import Cluster

QUESTION = "press a to abort"


@pytest.fixture
def job_id(cluster: Cluster, slow: Path) -> Iterator[int]:
    """A calculation that goes on by itself."""
    done = cluster.call("run", "--detach", slow)
    assert done.returncode == 0, done.stderr
    yield int(done.stdout)
    cluster.call("abort", done.stdout.strip())
    cluster.wait_until_quiet()


def test_attach_follows_until_the_end(cluster: Cluster, brief: Path) -> None:
    """What was, what comes, the result, and the job's exit code."""
    job_id = int(cluster.call("run", "--detach", brief).stdout)

    done = cluster.call("attach", job_id)

    assert done.returncode == 0, done.stderr
    assert f"job {job_id} complete in" in done.stdout
    assert "Hazard Curves" in done.stdout
    assert "event_based: 3 of 3 tasks done" in done.stderr
    assert f"job {job_id} is executing" in done.stderr
    cluster.wait_until_quiet()


def test_attach_to_an_ended_job_tells_its_end(cluster: Cluster, quick: Path) -> None:
    """Last lines, stages and the result at once; -1 is the last job, and -v shows the whole log."""
    assert cluster.call("run", quick).returncode == 0

    short, long = cluster.call("attach", -1), cluster.call("attach", "-v", -1)

    assert (short.returncode, long.returncode) == (0, 0)
    assert "classical: " in short.stderr
    assert "Hazard Curves" in short.stdout
    assert len(short.stderr.splitlines()) < len(long.stderr.splitlines())
    assert "classical 100%" in long.stderr


def test_attach_ends_with_the_exit_code_of_the_job(cluster: Cluster, quick: Path, job_id: int) -> None:
    """1 for a job that failed, 4 for one that was aborted; with the reason."""
    assert cluster.call("abort", job_id).returncode == 0
    quick.with_name("gsim_logic_tree.xml").write_text("<nrml/>")
    assert cluster.call("run", quick).returncode == 1

    failed, aborted = cluster.call("attach", -1, "--output", "json"), cluster.call("attach", job_id)

    assert failed.returncode == json.loads(failed.stdout)["exit_code"] == 1
    assert json.loads(failed.stdout)["jobs"][0]["error"]
    assert (aborted.returncode, aborted.stdout) == (4, "")
    assert f"job {job_id} aborted" in aborted.stderr


def test_attach_to_no_job_is_refused(cluster: Cluster) -> None:
    """With words."""
    done = cluster.call("attach", 123456)

    assert done.returncode == 1
    assert "123456" in done.stderr


def test_ctrl_c_in_attach_asks_and_d_leaves(cluster: Cluster, job_id: int) -> None:
    """Twice, if one likes."""
    for _ in range(2):
        with at_terminal(cluster, "attach", job_id) as terminal:
            terminal.wait_for("tasks")
            terminal.press(CTRL_C)
            terminal.wait_for(QUESTION)
            terminal.press("d")
            terminal.wait_for("goes on")
            assert terminal.finish()[0] == 0

    assert cluster.job(job_id)["state"] == "executing"


def test_ctrl_c_in_attach_asks_and_a_aborts(cluster: Cluster, job_id: int) -> None:
    """Attach stays until the job has ended."""
    with at_terminal(cluster, "attach", job_id) as terminal:
        terminal.wait_for("tasks")
        terminal.press(CTRL_C)
        terminal.wait_for(QUESTION)
        terminal.press("a")
        terminal.wait_for("aborting job")
        code, _ = terminal.finish()

    assert code == 4
    assert cluster.job(job_id)["state"] == "aborted"


def test_closed_terminal_of_attach_changes_nothing(cluster: Cluster, job_id: int) -> None:
    """It only looked."""
    with at_terminal(cluster, "attach", job_id) as terminal:
        terminal.wait_for("tasks")
        terminal.hang_up()
        assert terminal.finish()[0] == 129

    assert cluster.job(job_id)["state"] == "executing"


def test_ctrl_c_in_a_script_aborts(cluster: Cluster, job_id: int) -> None:
    """As in `run`."""
    running = cluster.start("attach", job_id)
    running.wait_for("tasks")

    running.process.send_signal(signal.SIGINT)
    code, output = running.finish()

    assert code == 4, output
    assert cluster.job(job_id)["state"] == "aborted"
