"""What workers print and how they die, told to programs and in the logs of jobs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import LocalCluster, testing
from quakegrid.clients import agent as agents
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.node_control import NodeControl
from quakegrid.machine import local_services
from quakegrid.services.agent.rules import output_lines
from quakegrid.settings import config
from tests.support.calls import rough_calls, sdk_calls

WAIT_S = 60.0
MUCH_BYTES = 50_000_000


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
