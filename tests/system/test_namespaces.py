"""Calculations over a master and three nodes with addresses of their own, behind the manual's firewall."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from quakegrid.nodes import engine_version
from quakegrid.reports import task_history_files
from quakegrid.reports.task_history import AttemptEnd, read_history
from tests.engine.cases import Case, Job, prepare
from tests.engine.exports import find_differences
from tests.engine.plain_runs import PlainEngine, running_plain_engine
from tests.support.clusters import QUAKEGRID
from tests.support.namespace_cluster import MASTER
from tests.system.machines import Machines, cores_here, running_machines, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SMALL, LARGE, GUEST = 1, 2, 3
CORES = (1, 1, cores_here(2), 1)
NAMED = {SMALL: CORES[SMALL], LARGE: CORES[LARGE]}
CASE = Case("event_based/case_6")
# Enough tasks for somebody who comes late to get some.
PARAMS = {"concurrent_tasks": "24", "ses_per_logic_tree_path": "15"}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainEngine]:
    """The plain engine at work on the case."""
    with running_plain_engine(tmp_path_factory.mktemp("plain"), [CASE], PARAMS) as plain:
        yield plain


@pytest.fixture(scope="module")
def machines(plain: PlainEngine) -> Iterator[Machines]:
    """A master for drivers, two nodes that its file names, and a guest that is not of the cluster yet."""
    with running_machines(*CORES, configured=tuple(NAMED), preload="openquake") as machines:
        for node in machines.network.nodes:
            machines.start_agent(node)
        machines.wait_for_cores(NAMED)
        for node in (MASTER, GUEST):
            wait_until_warm(machines, node)
        yield machines


def start(machines: Machines, job: Job) -> subprocess.Popen[str]:
    """Start a calculation on the master."""
    params = [arg for key, value in PARAMS.items() for arg in ("-p", f"{key}={value}")]
    exports = ["--exports", "csv", "--export-dir", job.export_dir]
    return machines.start(QUAKEGRID, MASTER, "run", job.job_ini, *exports, *params)


def session(machines: Machines) -> dict[str, Any]:
    """What the broker tells of the calculation; nothing if it is not there."""
    (found,) = machines.json("status")["sessions"] or ({},)
    assert isinstance(found, dict)
    return found


def workplaces(machines: Machines) -> set[str]:
    """The nodes that have ended tasks of the last calculation."""
    path = max((machines.cluster.state_dir(MASTER) / "records").iterdir(), key=lambda path: int(path.name))
    history = read_history(task_history_files.read(path))
    done = (attempt for attempt in history.attempts if attempt.end is AttemptEnd.DONE)
    return {history.workers[attempt.worker_id].node for attempt in done}


def test_calculation_goes_on_while_a_node_joins_and_leaves(machines: Machines, plain: PlainEngine) -> None:
    """All nodes have worked, the numbers are the plain engine's, and the firewalls dropped nothing."""
    (job,) = prepare(CASE, machines.shared_dir / "case")
    (expected,) = plain.exports(CASE)

    with start(machines, job) as running:
        wait_until(lambda: session(machines).get("running_count"), lambda: running.communicate(timeout=5))
        join = machines.agentctl(GUEST, "join", machines.network.address(MASTER))
        wait_until(lambda: "node3" in workplaces(machines))
        leave = machines.agentctl(GUEST, "leave")
        was_running = running.poll() is None
        _, err = running.communicate(timeout=300)

    assert (join.returncode, leave.returncode, running.returncode) == (0, 0, 0), (join, leave, err)
    assert was_running
    assert find_differences(expected, job.export_dir) == []
    assert workplaces(machines) == {"node1", "node2", "node3"}
    assert machines.warm_cores() == NAMED
    assert machines.firewall.dropped() == []


@pytest.mark.full
def test_node_without_the_shared_directory_is_served_and_the_log_says_so(
    machines: Machines, plain: PlainEngine
) -> None:
    """The other node shares it; the numbers are right, and the doctor notes it."""
    (job,) = prepare(CASE, machines.shared_dir / "unseen")
    (expected,) = plain.exports(CASE)
    with mistaken(machines, SMALL, prelude=f"mount -t tmpfs none {machines.shared_dir.parent}"):
        with start(machines, job) as running:
            _, err = running.communicate(timeout=300)
        log = machines.quakegrid("jobs", "logs", "-1").stdout
        doctor = machines.quakegrid("doctor")

    assert running.returncode == 0, err
    assert find_differences(expected, job.export_dir) == []
    assert workplaces(machines) == {"node1", "node2"}
    assert "node node1 does not share" in log
    assert "node node2 does not share" not in log
    assert doctor.returncode == 0, doctor.stdout
    assert f"note    10.77.0.2  shared_dir: shared_dir {machines.shared_dir}: No such file" in doctor.stdout


@pytest.mark.full
def test_node_with_another_engine_is_left_out_with_both_versions(
    machines: Machines, plain: PlainEngine
) -> None:
    """In the job's log and in the status; the others do its work, and the numbers are right."""
    (job,) = prepare(CASE, machines.shared_dir / "versions")
    (expected,) = plain.exports(CASE)
    info = machines.directory / "site" / "openquake_engine-3.26.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: openquake.engine\nVersion: 3.26.0\n")
    with mistaken(machines, SMALL, environ={"PYTHONPATH": str(info.parent)}):
        with start(machines, job) as running:
            wait_until(lambda: session(machines).get("running_count"), lambda: running.communicate(timeout=5))
            status = machines.quakegrid("workers", "status")
            _, err = running.communicate(timeout=300)
        log = machines.quakegrid("jobs", "logs", "-1").stdout

    difference = f"openquake.engine 3.26.0 there, {engine_version.installed_version()} here"
    assert running.returncode == 0, err
    assert difference in status.stdout
    assert f"node node1 (10.77.0.2) is left out: {difference}" in log
    assert workplaces(machines) == {"node2"}
    assert find_differences(expected, job.export_dir) == []


@contextlib.contextmanager
def mistaken(
    machines: Machines, node: int, *, prelude: str = "", environ: dict[str, str] | None = None
) -> Iterator[None]:
    """A node's agent with a mistake, for a while."""
    machines.configure(node, prelude=prelude)
    machines.stop_agent(node)
    machines.start_agent(node, environ=environ)
    try:
        wait_until_warm(machines, node)
        yield
    finally:
        machines.configure(node)
        machines.stop_agent(node)
        machines.start_agent(node)
        wait_until_warm(machines, node)


def wait_until_warm(machines: Machines, node: int) -> None:
    """Wait until a node that was started again can work, and the broker knows."""
    warm = machines.agentctl(node, "warm")
    assert warm.returncode == 0, warm.stderr
    machines.wait_for_cores(NAMED)
