"""Calculations on nodes that see nothing of the master's files: the numbers of the plain engine."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quakegrid.reports import task_history_files
from quakegrid.reports.task_history import AttemptEnd, read_history
from tests.engine.cases import CASES, Case, prepare
from tests.engine.exports import find_differences
from tests.engine.plain_runs import PlainEngine, running_plain_engine
from tests.nofs.apart import GUEST, Apart, running_apart
from tests.support.namespace_cluster import MASTER
from tests.system.machines import wait_until

# Names and addresses of its namespaces are fixed.
pytestmark = [pytest.mark.engine, pytest.mark.alone, pytest.mark.timeout(900)]
QUICK = ("classical/case_22", "classical_risk/case_4")
LONG = Case("event_based/case_6")
MODELS = Case("classical/case_22")
LINK_CUT_S = 10.0
# More tasks, so that one of them is left for a node that joins; samples depend on the number.
JOINING = {"concurrent_tasks": "24"}


# All kinds of calculations; the others are variants, and the long one is below.
OTHERS = ("classical/case_66", "logictree/case_73", LONG.folder)
SERVED = [
    pytest.param(case, id=case.folder, marks=() if case.folder in QUICK else pytest.mark.full)
    for case in CASES
    if case.folder not in OTHERS
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[PlainEngine]:
    """The plain engine at work on the cases that were chosen."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    chosen = {found["case"].folder for found in params if "case" in found}
    if any("full" in item.keywords for item in request.session.items):
        chosen |= {LONG.folder, MODELS.folder}
    cases = [case for case in CASES if case.folder in chosen]
    with running_plain_engine(tmp_path_factory.mktemp("plain"), cases) as plain:
        yield plain


@pytest.fixture(scope="module")
def plain_joining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainEngine]:
    """The plain engine at work on the calculation that a node joins."""
    with running_plain_engine(tmp_path_factory.mktemp("plain"), [LONG], JOINING) as plain:
        yield plain


@pytest.fixture(scope="module")
def apart(plain: PlainEngine) -> Iterator[Apart]:
    """Two nodes with a core each, and a guest."""
    with running_apart(1, 1, 1, 1) as found:
        yield found


def session(apart: Apart) -> dict[str, Any]:
    """What the broker tells of the calculation; nothing if it is not there."""
    (found,) = apart.machines.json("status")["sessions"] or ({},)
    assert isinstance(found, dict)
    return found


def workplaces(apart: Apart) -> set[str]:
    """The nodes that have ended tasks of the last calculation."""
    records = apart.machines.cluster.state_dir(MASTER) / "records"
    path = max(records.iterdir(), key=lambda path: int(path.name))
    history = read_history(task_history_files.read(path))
    done = (attempt for attempt in history.attempts if attempt.end is AttemptEnd.DONE)
    return {history.workers[attempt.worker_id].node for attempt in done}


def workers_of(apart: Apart, node: int) -> list[int]:
    """Process ids of the workers of a node."""
    told = json.loads(apart.machines.agentctl(node, "status", "--output", "json").stdout)
    return [each["pid"] for each in told["workers"]]


def end(running: subprocess.Popen[str]) -> None:
    """Wait for a calculation that shall end well."""
    _, err = running.communicate(timeout=300)
    assert running.returncode == 0, err


@pytest.mark.parametrize("case", SERVED)
def test_numbers_are_the_plain_engines(case: Case, apart: Apart, plain: PlainEngine) -> None:
    """Whatever its tasks read, and whatever stale files the nodes have in its place."""
    jobs = apart.run(case)

    for expected, job in zip(plain.exports(case), jobs, strict=True):
        assert find_differences(expected, job.export_dir) == []
    assert apart.served_nodes()
    assert [path.name for path in apart.datadir.iterdir() if path.name.startswith(".")] == []


@pytest.mark.full
def test_node_that_shares_the_files_works_beside_one_that_does_not(apart: Apart, plain: PlainEngine) -> None:
    """A nonce proves it for the one; the other is served."""
    with apart.changed(1, is_apart=False):
        (job,) = apart.run(LONG, "mixed")
        served = apart.served_nodes()

    assert find_differences(plain.exports(LONG)[0], job.export_dir) == []
    assert served == {"node2"}
    assert workplaces(apart) == {"node1", "node2"}


@pytest.mark.full
def test_node_without_room_for_blocks_reads_all_the_same(apart: Apart, plain: PlainEngine) -> None:
    """Neither in its shared memory nor on its disk."""
    folder = apart.machines.cluster.tmp_dir(1)
    with apart.changed(1, shm="64k", more=f"mount -t tmpfs -o size=64k none {folder}"):
        (job,) = apart.run(MODELS, "full")

    assert find_differences(plain.exports(MODELS)[0], job.export_dir) == []
    assert "node1" in workplaces(apart)


@pytest.mark.full
def test_worker_that_asks_for_what_is_not_its_jobs_is_refused(apart: Apart, plain: PlainEngine) -> None:
    """Such as the master's key, or another job's datastore: nothing comes, and the log tells of each."""
    apart.run(MODELS, "another")
    another = apart.datadir / f"calc_{apart.machines.json('jobs', 'show', -1)['id']}.hdf5"
    wanted = [
        "/etc/passwd",
        str(apart.machines.cluster.state_dir(MASTER) / "openquake.cfg"),
        str(another),
        str(another.with_suffix("") / ".." / another.name),
    ]
    assert all(Path(path).resolve().is_file() for path in wanted)
    with apart.changed(1, {"NOSY_PATHS": ":".join(wanted)}, preload="openquake, tests.nofs.nosy"):
        (job,) = apart.run(MODELS, "nosy")
    log = apart.log()

    for path in wanted:
        assert f"nosy worker: asks for {path}: RefusedFileError" in log
        assert f"nosy worker: reads {path} as a model: RefusedFileError" in log
        words = f"asked for {path!r}, which is no file of this job: refused"
        assert any("WARNING" in line for line in log.splitlines() if words in line)
    assert f"nosy worker: opens {another}: RefusedFileError" in log
    assert "nosy worker: reads a guessed epoch: FileGoneError" in log
    assert find_differences(plain.exports(MODELS)[0], job.export_dir) == []
    assert "node1" in workplaces(apart)


@pytest.mark.full
def test_node_that_joins_in_mid_job_is_served(
    apart: Apart, plain: PlainEngine, plain_joining: PlainEngine
) -> None:
    """It reads the epoch of the Starmap that runs, and the numbers are the plain engine's."""
    (job,) = prepare(LONG, apart.models / "joining")
    apart.machines.start_agent(GUEST)
    apart.wait_until_warm(GUEST)
    with apart.start(job, JOINING) as running:
        wait_until(lambda: session(apart).get("running_count"), lambda: running.communicate(timeout=5))
        join = apart.machines.agentctl(GUEST, "join", apart.machines.network.address(MASTER))
        wait_until(lambda: "node3" in workplaces(apart), lambda: running.communicate(timeout=5))
        leave = apart.machines.agentctl(GUEST, "leave")
        end(running)

    assert (join.returncode, leave.returncode) == (0, 0), (join, leave)
    assert "node3" in apart.served_nodes()
    assert find_differences(plain_joining.exports(LONG)[0], job.export_dir) == []


@pytest.mark.full
def test_calculation_outlives_links_that_are_cut_for_a_while(apart: Apart, plain: PlainEngine) -> None:
    """Both ways, to all nodes, while tasks run; questions are asked again."""
    (job,) = prepare(LONG, apart.models / "cut")
    network = apart.machines.network
    ways = [way for node in (1, 2) for way in ((MASTER, node), (node, MASTER))]
    with apart.start(job) as running:
        wait_until(lambda: session(apart).get("running_count"), lambda: running.communicate(timeout=5))
        for way in ways:
            network.cut(*way, is_cut=True)
        end_s = time.monotonic() + LINK_CUT_S
        while time.monotonic() < end_s and running.poll() is None:
            time.sleep(0.05)  # the length of the fault, not a wait for something
        for way in ways:
            network.cut(*way, is_cut=False)
        end(running)

    assert find_differences(plain.exports(LONG)[0], job.export_dir) == []


@pytest.mark.full
def test_worker_that_is_killed_while_blocks_come_over_a_slow_line_costs_a_task(
    apart: Apart, plain_joining: PlainEngine
) -> None:
    """What the master sends is slow; the task runs again, and reads what it read first."""
    (job,) = prepare(LONG, apart.models / "slow")
    network = apart.machines.network
    network.slow(MASTER, is_slow=True)
    with apart.start(job, JOINING) as running:
        wait_until(lambda: session(apart).get("running_count"), lambda: running.communicate(timeout=5))
        wait_until(lambda: workers_of(apart, 1), lambda: running.communicate(timeout=5))
        os.kill(workers_of(apart, 1)[0], signal.SIGKILL)
        end(running)
    network.slow(MASTER, is_slow=False)

    assert find_differences(plain_joining.exports(LONG)[0], job.export_dir) == []
    assert "node1" in apart.served_nodes()
    assert re.search(r"worker \S+ on node node1 was killed by SIGKILL", apart.log())
