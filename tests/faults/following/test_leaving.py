"""Calculations that go on without the command that started them: real processes at real terminals."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from quakegrid.clients import agent as agents
from quakegrid.settings import config
from tests.faults.following.terminals import CTRL_C, at_terminal
from tests.support.clusters import Cluster

# What a small calculation may take on a busy machine.
RUN_S = 300.0
QUESTION = "press a to abort"
JOB = "job "


def job_id_on(screen: str) -> int:
    """The job that the screen names last."""
    return int(screen.rpartition(JOB)[2].split(":")[0])


def test_detached_run_prints_the_id_and_goes_on(cluster: Cluster, brief: Path) -> None:
    """The id is alone on stdout, and the words on stderr name the command to follow it."""
    done = cluster.call("run", "--detach", brief)

    assert done.returncode == 0, done.stderr
    job_id = int(done.stdout)
    assert f"quakegrid attach {job_id}" in done.stderr
    assert cluster.job(job_id)["state"] == "executing"
    assert cluster.ended_job(job_id, RUN_S)["state"] == "complete"
    cluster.wait_until_quiet()


def test_detached_run_tells_the_id_as_json(cluster: Cluster, quick: Path) -> None:
    """For scripts."""
    done = cluster.call("run", "--detach", "--json", quick)

    (job_id,) = json.loads(done.stdout)["job_ids"]
    assert cluster.ended_job(job_id, RUN_S)["state"] == "complete"
    cluster.wait_until_quiet()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("job.ini", "calculation_mode = classical", "calculation_mode = clasical"),
        ("job.ini", "gsim_logic_tree_file = gsim", "gsim_logic_tree_file = no_such"),
        ("gsim_logic_tree.xml", "SadighEtAl1997", "SadighEtAl1887"),
    ],
)
def test_detached_run_refuses_wrong_inputs_at_once(
    cluster: Cluster, quick: Path, file: str, old: str, new: str
) -> None:
    """With the words and the exit code of a run that is followed, and no job that goes on."""
    text = (quick.parent / file).read_text()
    assert old in text
    (quick.parent / file).write_text(text.replace(old, new))
    followed = cluster.call("run", quick)

    done = cluster.call("run", "--detach", quick)

    assert (done.returncode, done.stdout) == (followed.returncode, "")
    assert done.returncode in {1, 2}
    assert error_of(done.stderr) == error_of(followed.stderr) != ""
    cluster.wait_until_quiet()


def error_of(stderr: str) -> str:
    """What a run says of its failure, without the job's number."""
    lines = [line for line in stderr.splitlines() if line.startswith(("quakegrid:", "job "))]
    return re.sub(r"\b\d+\b", "N", lines[-1] if lines else "")


@pytest.mark.full
def test_killed_command_line_leaves_its_calculation(cluster: Cluster, brief: Path) -> None:
    """As when a connection is lost without a word; the job is complete, and its record says nothing of it."""
    running = cluster.start("run", brief)
    running.wait_for("tasks done")

    running.process.kill()
    running.finish()

    job = cluster.ended_job(-1, RUN_S)
    assert (job["state"], job["state_reason"]) == ("complete", "")
    cluster.wait_until_quiet()


@pytest.mark.full
def test_status_of_the_node_shows_detached_drivers(cluster: Cluster, brief: Path) -> None:
    """For administrators who want to restart it."""
    assert cluster.call("run", "--detach", brief).returncode == 0
    settings = config.load_settings(cluster.state_dir, cluster.environ)

    with closing(agents.local_client(settings)) as agent:
        [driver] = agent.status().drivers

    assert (driver.is_detached, driver.command) == (True, f"engine --run {brief}")
    assert cluster.ended_job(-1, RUN_S)["state"] == "complete"
    cluster.wait_until_quiet()


def test_closed_terminal_leaves_its_calculation(cluster: Cluster, brief: Path) -> None:
    """The kernel says SIGHUP; the command ends with it."""
    with at_terminal(cluster, "run", brief) as terminal:
        terminal.wait_for("tasks")
        terminal.hang_up()
        code, _ = terminal.finish()

    assert code == 129
    assert cluster.ended_job(-1, RUN_S)["state"] == "complete"
    cluster.wait_until_quiet()


def test_ctrl_c_asks_and_d_detaches(cluster: Cluster, brief: Path) -> None:
    """The command ends with 0 and says how to come back."""
    with at_terminal(cluster, "run", brief) as terminal:
        terminal.wait_for("tasks")
        terminal.press(CTRL_C)
        terminal.wait_for(QUESTION)
        terminal.press("d")
        terminal.wait_for("quakegrid attach")
        code, _ = terminal.finish()

    assert code == 0
    assert cluster.ended_job(-1, RUN_S)["state"] == "complete"
    cluster.wait_until_quiet()


def test_ctrl_c_asks_and_another_key_goes_on(cluster: Cluster, brief: Path) -> None:
    """The calculation never heard of it."""
    with at_terminal(cluster, "run", brief) as terminal:
        terminal.wait_for("tasks")
        terminal.press(CTRL_C)
        terminal.wait_for(QUESTION)
        terminal.press("g")
        terminal.wait_for("complete in")
        code, _ = terminal.finish()

    assert code == 0
    cluster.wait_until_quiet()


def test_ctrl_c_asks_and_a_aborts(cluster: Cluster, slow: Path) -> None:
    """As Ctrl-C did without a question."""
    with at_terminal(cluster, "run", slow) as terminal:
        terminal.wait_for("tasks")
        terminal.press(CTRL_C)
        terminal.wait_for(QUESTION)
        terminal.press("a")
        terminal.wait_for("aborting job")
        code, _ = terminal.finish()

    assert code == 4
    assert cluster.ended_job(-1, RUN_S)["state"] == "aborted"
    cluster.wait_until_quiet()


def test_second_ctrl_c_aborts(cluster: Cluster, slow: Path) -> None:
    """Whoever presses it again means it."""
    with at_terminal(cluster, "run", slow) as terminal:
        terminal.wait_for("tasks")
        terminal.press(CTRL_C)
        terminal.wait_for(QUESTION)
        terminal.press(CTRL_C)
        terminal.wait_for("aborting job")
        code, _ = terminal.finish()

    assert code == 4
    assert cluster.ended_job(-1, RUN_S)["state"] == "aborted"
    cluster.wait_until_quiet()
