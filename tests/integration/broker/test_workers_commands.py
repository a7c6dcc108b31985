"""`quakegrid workers` and `quakegrid oq workers` over several real nodes, beside upstream's own output."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import testing
from tests.support import upstream_workers
from tests.support.calls import sdk_calls
from tests.support.nodes import USER, Nodes, running_nodes, wait_until
from tests.support.processes import REPOSITORY

COUNT = 400
TOTAL = sum(range(COUNT))
MORE_THAN_MAX_ATTEMPTS = 4


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes of one core each."""
    with running_nodes(tmp_path_factory.mktemp("two"), "127.0.0.1 1, 127.0.0.2 1", 1, 2) as nodes:
        yield nodes


@pytest.fixture
def two(lasting: Nodes) -> Iterator[Nodes]:
    """The same, both at work."""
    yield lasting
    lasting.mend()


def requeued(nodes: Nodes) -> int:
    """How many tasks were given to another worker, ever."""
    return nodes.status().totals.requeued_count


def states(nodes: Nodes) -> list[str]:
    """The nodes' states as `workers status` tells them."""
    done = nodes.quakegrid("workers", "status", "--output", "json")
    assert done.returncode == 0, done.stderr
    return [node["state"] for node in json.loads(done.stdout)]


def test_stop_lets_tasks_end_and_start_goes_on(two: Nodes, tmp_path: Path) -> None:
    """What runs is finished, what waits waits, nothing is run twice."""
    gate, before = tmp_path / "gate", requeued(two)
    with two.cluster() as cluster, cluster.executor() as executor:
        held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(3)]
        wait_until(lambda: [node.running_count for node in two.status().nodes] == [1, 1])

        ordered = two.quakegrid("workers", "stop", "--no-wait")
        gate.touch()
        stopped = two.quakegrid("workers", "stop", "--output", "json")
        rest = executor.map(sdk_calls.take_a_moment, range(COUNT))
        assert states(two) == ["stopped", "stopped"]
        assert [call.done() for call in held].count(True) == 2
        started = two.quakegrid("workers", "start", "--output", "quiet")
        again = two.quakegrid("workers", "start")

        assert sum(rest) == TOTAL
        assert [call.result(60) for call in held] == [str(gate)] * 3
    assert [done.returncode for done in (ordered, stopped, started, again)] == [0] * 4
    assert [node["worker_count"] for node in json.loads(stopped.stdout)] == [0, 0]
    assert started.stdout.split() == ["127.0.0.1", "127.0.0.2"]
    assert again.stderr.count("serves already") == 2
    assert requeued(two) == before


def test_kill_ends_workers_at_once_and_their_tasks_are_run_again(two: Nodes, tmp_path: Path) -> None:
    """After `workers start`, however often, since the tasks are not to blame."""
    gate, before = tmp_path / "gate", requeued(two)
    with two.cluster() as cluster, cluster.executor() as executor:
        held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(2)]
        for _ in range(MORE_THAN_MAX_ATTEMPTS):
            wait_until(lambda: [node.running_count for node in two.status().nodes] == [1, 1])

            killed = two.quakegrid("workers", "kill", "--output", "json")
            assert [node["worker_count"] for node in json.loads(killed.stdout)] == [0, 0]
            assert not any(call.done() for call in held)
            assert two.quakegrid("workers", "start").returncode == 0

        gate.touch()
        assert [call.result(60) for call in held] == [str(gate)] * 2
    assert requeued(two) == before + 2 * MORE_THAN_MAX_ATTEMPTS


def templates(nodes: Nodes) -> list[int]:
    """How many templates each node has had, by its log."""
    return [nodes.agentctl(number, "logs").stdout.count("template_ready") for number in (1, 2)]


def test_restart_under_load_loses_nothing(two: Nodes) -> None:
    """Workers and templates are new, the sum is right."""
    before, loaded = requeued(two), templates(two)
    with two.cluster() as cluster, cluster.executor() as executor:
        rest = executor.map(sdk_calls.take_a_moment, range(COUNT))

        done = two.quakegrid("workers", "restart")

        assert done.returncode == 0, done.stderr
        assert sum(rest) == TOTAL
    assert two.quakegrid("workers", "wait", "--timeout", 60).returncode == 0
    assert templates(two) == [count + 1 for count in loaded]
    assert requeued(two) == before


def test_wait_tells_who_is_missing_in_time(two: Nodes) -> None:
    """All nodes by default, one with --any; exit code 3 with the reasons."""
    assert two.quakegrid("workers", "wait").returncode == 0
    assert two.agentctl(2, "stop").returncode == 0
    wait_until(lambda: len(two.up()) == 1)

    some = two.quakegrid("workers", "wait", "--any", "--timeout", 0)
    every = two.quakegrid("workers", "wait", "--timeout", 0.2)

    assert (some.returncode, every.returncode) == (0, 3)
    assert "127.0.0.2: stopped" in every.stderr


def test_node_that_does_not_answer_is_told_and_the_others_obey(two: Nodes) -> None:
    """Exit code 3 names it."""
    record = json.loads((two.settings_of(2).run_dir / "agent.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    wait_until(lambda: len(two.up()) == 1)

    done = two.quakegrid("workers", "stop")

    assert done.returncode == 3
    assert "127.0.0.2" in done.stderr
    assert states(two)[0] == "stopped"


def test_oq_output_of_status_has_the_nodes_that_serve(two: Nodes) -> None:
    """As upstream, which passes over the others."""
    both = two.quakegrid("workers", "status", "--output", "oq").stdout
    assert two.agentctl(2, "stop").returncode == 0
    wait_until(lambda: len(two.up()) == 1)
    one = two.quakegrid("workers", "status", "--output", "oq").stdout

    assert ast.literal_eval(both) == [("127.0.0.1", 0, 1), ("127.0.0.2", 0, 1)]
    assert one == "[('127.0.0.1', 0, 1)]\n"


@pytest.mark.engine
def test_oq_workers_prints_what_upstream_prints(tmp_path: Path) -> None:
    """The same verbs in the same order, from nothing that runs to nothing that runs."""
    with running_nodes(tmp_path / "ours", "127.0.0.1 1", 1, engine=True) as nodes:
        assert nodes.quakegrid("workers", "stop").returncode == 0
        ours = ""
        for verb in upstream_workers.VERBS:
            done = nodes.quakegrid("oq", "workers", verb)
            assert done.returncode == 0, done.stderr
            ours += f"# {verb}\n{done.stdout}"
        killed = nodes.quakegrid("oq", "workers", "kill")
        refused = nodes.quakegrid("oq", "workers", "dance")
        nodes.quakegrid("workers", "start")
        debugged = nodes.quakegrid("oq", "workers", "debug")
        port = nodes.master.agent_port

    theirs, their_port = run_upstream(tmp_path / "theirs")
    assert ours.replace(str(port), "PORT") == theirs.replace(str(their_port), "PORT")
    assert killed.stdout == "killed ['127.0.0.1']\n"
    assert refused.returncode == 2
    assert "invalid choice" in refused.stderr
    assert debugged.stdout == f"Sending to tcp://127.0.0.1:{port}\nresults=[0, 1]\ndebugged\n"


def run_upstream(directory: Path) -> tuple[str, int]:
    """What upstream prints, and the port that its pool had."""
    home = directory / "home"
    home.mkdir(parents=True)
    path = testing.write_cluster_config(directory / "state", {"zworkers": {"host_cores": "127.0.0.1 1"}})
    line = next(line for line in path.read_text().splitlines() if line.startswith("ctrl_port"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.upstream_workers"],
        env=testing.isolated_environ(home) | {"OQ_CONFIG_FILE": str(path), "LOGNAME": USER},
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, int(line.partition("=")[2])
