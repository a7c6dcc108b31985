"""What workers print and how they die, told to programs and in the logs of jobs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import LocalCluster, testing
from quakegrid.clients import agent as agents
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.node_control import NodeControl
from quakegrid.machine import local_services
from quakegrid.settings import config
from services.agent.rules import output_lines
from tests.support.calls import rough_calls, sdk_calls
from tests.support.clusters import Cluster, running_cluster

WAIT_S = 60.0
MUCH_BYTES = 50_000_000
TALKER = """
import getpass
import sys

from openquake.calculators import classical
from openquake.engine import engine

calculate = classical.postclassical


def talking(pgetter, hstats, individual_rlzs, amplifier, monitor):
    print("a worker says")
    print("a worker warns", file=sys.stderr)
    return calculate(pgetter, hstats, individual_rlzs, amplifier, monitor)


def main(job_ini):
    classical.postclassical = talking
    engine.run_jobs(engine.create_jobs([job_ini], "info", None, getpass.getuser(), None))
"""


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A cluster with one worker, without the engine."""
    with LocalCluster(cores=1) as cluster:
        yield cluster


def test_program_prints_what_its_workers_print(
    cluster: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each stream where it belongs, with worker and node; all of it is there when the executor is shut."""
    with cluster.executor() as executor:
        executor.submit(rough_calls.print_both, "Hello").result(WAIT_S)
    said = capfd.readouterr()

    name = r"\(worker=\w+-1, node=[^)]+\) "
    assert re.fullmatch(rf"{name}Hello on stdout\n{name}bytes that are no text: \ufffd\n", said.out)
    assert re.fullmatch(rf"{name}Hello on stderr\n", said.err)


def test_worker_that_prints_much_is_cut_short_and_not_held_up(
    cluster: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its program gets what is in bounds and how much there was; the agent's log does not grow."""
    with cluster.executor() as executor:
        executor.submit(rough_calls.print_lines, MUCH_BYTES // 100, 100).result(WAIT_S)
    said = capfd.readouterr()

    kept = len(re.findall(r"\) x{99}\n", said.out)) * 100
    noted = re.findall(r"… (\d+) MB more of its output were dropped\n", said.err)
    assert 0 < kept <= 2 * output_lines.BURST_BYTES
    assert MUCH_BYTES - kept == pytest.approx(sum(map(int, noted)) * 1e6, abs=1e6 * len(noted))
    assert local_services.log_path(cluster.settings, "agent").stat().st_size < 10_000


def test_death_is_told_with_the_last_words(cluster: LocalCluster, capfd: pytest.CaptureFixture[str]) -> None:
    """Signal, memory, task, attempt and the last lines of stderr, for each attempt."""
    with cluster.executor() as executor:
        broken = executor.submit(rough_calls.die_in_words, signal.SIGSEGV)
        assert "killed by SIGSEGV" in str(broken.exception(WAIT_S))
    said = capfd.readouterr().err

    for attempt in (1, 2, 3):
        (death,) = re.findall(
            rf"was killed by SIGSEGV, peak memory \d+ MiB, while it ran task 1 \(attempt {attempt}, "
            r"die_in_words\); its last lines:\n((?:last words \d+\n)+)",
            said,
        )
        assert death.splitlines() == [f"last words {line}" for line in range(10, 30)]


def test_death_without_a_word_has_its_exit_code(
    cluster: LocalCluster, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said of last lines that are none."""
    with cluster.executor() as executor:
        assert executor.submit(rough_calls.leave_quietly).exception(WAIT_S)
    said = capfd.readouterr().err

    assert re.search(r"ended with exit code 3, peak memory \d+ MiB, while it ran task 1 \(attempt 1", said)
    assert "last lines" not in said


def test_worker_that_people_killed_is_told_when_the_next_attempt_succeeds(
    cluster: LocalCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Whoever waits for the task learns why it takes longer."""
    path = tmp_path / "pid"
    with cluster.executor() as executor, contextlib.closing(agents.AgentClient(cluster.settings)) as agent:
        waiting = executor.submit(rough_calls.wait_at_first, str(path))
        next(found for found in agent.watch_status() if path.exists())
        with contextlib.closing(NodeControl(cluster.settings, config.LOOPBACK)) as node:
            node.stop(is_forced=True)
            next(found for found in agent.watch_status() if not found.workers)
            node.start(-1)
        assert waiting.result(WAIT_S) == "again"
    said = capfd.readouterr().err

    assert re.search(r"was stopped by request, peak memory \d+ MiB, while it ran task 1 \(attempt 1", said)


def test_workers_that_print_while_the_broker_is_gone_go_on(
    cluster: LocalCluster, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What they print then is kept in bounds; their program goes on, too, with the next broker."""
    with cluster.executor() as executor:
        assert executor.submit(sdk_calls.square, 3).result(WAIT_S) == 9
        # Not by SIGTERM first: a quick broker would end its sessions.
        os.kill(local_services.running(cluster.settings)["broker"].pid, signal.SIGKILL)
        much = executor.submit(rough_calls.print_lines, MUCH_BYTES // 1000, 1000)
        owner = local_services.Owner(cluster._lifeline, cluster._folder.hold_fd, _environ(cluster))  # type: ignore[union-attr]
        local_services.start(cluster.settings, ["broker"], owner)

        assert much.result(WAIT_S) == MUCH_BYTES // 1000
        with BrokerClient(cluster.settings) as client:
            assert client.status().sessions


def _environ(cluster: LocalCluster) -> dict[str, str]:
    return testing.isolated_environ(cluster.settings.state_dir) | {
        "OQ_CONFIG_FILE": str(cluster.settings.state_dir / "openquake.cfg")
    }


@pytest.fixture(scope="module")
def engine_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with the engine."""
    with running_cluster(tmp_path_factory.mktemp("talk"), tmp_path_factory.mktemp("home")) as cluster:
        yield cluster


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_job_log_has_what_its_workers_print(engine_cluster: Cluster, tmp_path: Path) -> None:
    """With node and worker as the process; what went to stderr is a warning."""
    (tmp_path / "talker.py").write_text(TALKER, encoding="utf-8")
    job_ini = testing.copy_engine_case("classical/case_01", tmp_path / "case") / "job.ini"
    mine = dataclasses.replace(engine_cluster, environ=engine_cluster.environ | {"PYTHONPATH": str(tmp_path)})

    done = mine.call("oq", "shell", "talker", job_ini)
    lines = mine.json("jobs", "logs", -1)

    assert done.returncode == 0, done.stdout + done.stderr
    found = [line for line in lines if line["message"].startswith("a worker ")]
    assert sorted((line["level"], line["message"]) for line in found) == [
        *[("INFO", "a worker says")] * 2,
        *[("WARNING", "a worker warns")] * 2,
    ]
    assert all(re.fullmatch(rf"{re.escape(socket.gethostname())}/\w+-\d+", line["process"]) for line in found)


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_job_log_tells_how_a_worker_died(engine_cluster: Cluster, tmp_path: Path) -> None:
    """And what it ran."""
    job_ini = testing.copy_engine_case("event_based/case_6", tmp_path / "case") / "job.ini"
    running = engine_cluster.start("run", job_ini)
    running.wait_for("Sent 3 event_based tasks")
    (session,) = engine_cluster.json("status")["sessions"]

    os.kill(next(pid for pid in engine_cluster.children() if pid != session["pid"]), signal.SIGKILL)
    code, said = running.finish()

    assert code == 0, said
    doing = r"(ran task \d+ \(attempt 1, event_based|held no task)"
    told = rf"worker \S+ on node \S+ was killed by SIGKILL .*, while it {doing}"
    assert re.search(told, engine_cluster.log())
    engine_cluster.wait_until_quiet()
