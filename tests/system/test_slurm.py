"""Agents in allocations of a real SLURM: they join, have the cores that they were given, leave in order."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.calls import sdk_calls
from tests.support.nodes import Nodes
from tests.system import slurm
from tests.system.compose import ROOT
from tests.system.slurm import Slurm, wait_until

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "it is here"),
]
AGENTCTL = Path(sys.executable).with_name("agentctl")
SCRIPT = ROOT / "deploy" / "slurm" / "quakegrid.sbatch"
MORE_THAN_MAX_ATTEMPTS = 4


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """Two idle nodes."""
    scheduler = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        scheduler.start()
        yield scheduler
    finally:
        scheduler.stop()


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Nodes]:
    """A broker whose fleet has no node but those that join."""
    nodes = Nodes(tmp_path, "none")
    yield nodes
    nodes.close()


def submit(scheduler: Slurm, master: Nodes, *options: str, cpus: int = 1) -> str:
    """Submit the batch script that users have."""
    temporary = master.directory / "temporary"
    temporary.mkdir(exist_ok=True)
    return scheduler.submit(
        *(f"--cpus-per-task={cpus}", "--mem-per-cpu=0", *options, SCRIPT, "127.0.0.1"),
        OQ_CONFIG_FILE=str(master.master.state_dir / "openquake.cfg"),
        PYTHONPATH=str(ROOT),
        QUAKEGRID_AGENTCTL=str(AGENTCTL),
        TMPDIR=str(temporary),
    )


def left_folders(master: Nodes) -> list[Path]:
    """State directories of agents."""
    return list((master.directory / "temporary").iterdir())


def test_agents_of_an_allocation_join_and_compute(scheduler: Slurm, master: Nodes) -> None:
    """One a node, on one machine here, each with a port and a state directory of its own."""
    job = submit(scheduler, master, "--nodes=2")
    with master.cluster() as cluster, cluster.executor() as executor:
        rest = executor.map(sdk_calls.square, range(200))

        assert sum(rest) == sum(number * number for number in range(200))
        wait_until(lambda: len(master.up()) == 2, "two nodes")
    found = master.status().nodes
    assert [node.core_count for node in found] == [1, 1]
    assert len({node.host for node in found}) == 2
    assert len(left_folders(master)) == 2

    scheduler.cancel(job)

    wait_until(lambda: scheduler.has_ended(job), "the end of the job")
    wait_until(lambda: not master.status().nodes, "nodes that have left")
    assert left_folders(master) == []


def test_agent_has_the_cores_of_its_allocation(scheduler: Slurm, master: Nodes) -> None:
    """All of a node, as it asked for that."""
    every = len(os.sched_getaffinity(0))
    job = submit(scheduler, master, "--nodes=1", cpus=every)
    wait_until(lambda: len(master.up()) == 1, "a node")

    assert master.status().nodes[0].core_count == every

    scheduler.cancel(job)
    wait_until(lambda: scheduler.has_ended(job), "the end of the job")


def test_job_whose_time_is_nearly_up_finishes_its_task(scheduler: Slurm, master: Nodes) -> None:
    """SLURM sends its agents SIGTERM, by `--signal`: nothing is run twice, and what waits goes elsewhere."""
    gate = master.directory / "gate"
    first = submit(scheduler, master, "--nodes=1")
    with master.cluster() as cluster, cluster.executor() as executor:
        held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(2)]
        wait_until(lambda: [node.running_count for node in master.status().nodes] == [1], "a task that runs")
        second = submit(scheduler, master, "--nodes=1")
        wait_until(lambda: [node.running_count for node in master.status().nodes] == [1, 1], "both tasks")

        scheduler.cancel(first, "--signal=TERM")
        wait_until(lambda: len(master.up()) == 1, "a node that leaves")
        assert not scheduler.has_ended(first)
        gate.touch()

        assert [call.result(60) for call in held] == [str(gate)] * 2
        wait_until(lambda: scheduler.has_ended(first), "the end of the first job")
        assert len(master.status().nodes) == 1
        assert master.status().totals.requeued_count == 0
        scheduler.cancel(second)
        wait_until(lambda: scheduler.has_ended(second), "the end of the second job")


def test_jobs_that_are_cancelled_do_not_count_against_their_tasks(scheduler: Slurm, master: Nodes) -> None:
    """However often: what ran is run in the next allocation, and no node is left behind."""
    gate, short = master.directory / "gate", ("--nodes=1", "--export=ALL,QUAKEGRID_LEAVE=0.5")
    job = submit(scheduler, master, *short)
    with master.cluster() as cluster, cluster.executor() as executor:
        held = executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate))
        for number in range(MORE_THAN_MAX_ATTEMPTS):
            job = submit(scheduler, master, *short) if number else job
            wait_until(lambda: [node.running_count for node in master.status().nodes] == [1], "a task")

            scheduler.cancel(job)
            wait_until(lambda job=job: scheduler.has_ended(job), "the end of the job")  # type: ignore[misc]
            wait_until(lambda: not master.status().nodes, "a node that is forgotten")

        last = submit(scheduler, master, "--nodes=1")
        gate.touch()
        assert held.result(60) == str(gate)
        scheduler.cancel(last)
        wait_until(lambda: scheduler.has_ended(last), "the end of the last job")
    assert left_folders(master) == []


def test_task_of_a_job_that_was_killed_is_run_in_another(scheduler: Slurm, master: Nodes) -> None:
    """After `node_timeout`; SLURM leaves no process of it."""
    gate = master.directory / "gate"
    killed = submit(scheduler, master, "--nodes=1")
    with master.cluster() as cluster, cluster.executor() as executor:
        held = executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate))
        wait_until(lambda: [node.running_count for node in master.status().nodes] == [1], "a task")

        scheduler.cancel(killed, "--signal=KILL")
        wait_until(lambda: scheduler.has_ended(killed), "the end of the killed job")
        other = submit(scheduler, master, "--nodes=1")
        gate.touch()

        assert held.result(60) == str(gate)
        scheduler.cancel(other)
        wait_until(lambda: scheduler.has_ended(other), "the end of the other job")
    assert master.status().totals.requeued_count == 1
