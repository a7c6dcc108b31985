"""`agentctl` against real agents and a real broker: serving, stopping, joining and leaving under load."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from quakegrid.machine import node_state
from quakegrid.transport import grpc_channels
from tests.support.calls import sdk_calls
from tests.support.nodes import Nodes, environment, running_nodes, wait_until
from tests.support.processes import make_state

HOST_CORES = "127.0.0.1 1, 127.0.0.2 1"
COUNT = 400
TOTAL = sum(range(COUNT))
MORE_THAN_MAX_ATTEMPTS = 4
AGENTCTL = Path(sys.executable).with_name("agentctl")


@pytest.fixture(scope="module")
def lasting_two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes of one core each, both in `host_cores`."""
    with running_nodes(tmp_path_factory.mktemp("two"), HOST_CORES, 1, 2) as nodes:
        yield nodes


@pytest.fixture
def two(lasting_two: Nodes) -> Iterator[Nodes]:
    """The same, both at work."""
    yield lasting_two
    lasting_two.mend()


@pytest.fixture(scope="module")
def lasting_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A master with one core, for tests to which no other node joins."""
    with running_nodes(tmp_path_factory.mktemp("one"), "127.0.0.1 1", 1) as nodes:
        yield nodes


@pytest.fixture
def same(lasting_one: Nodes) -> Iterator[Nodes]:
    """The same, at work."""
    yield lasting_one
    lasting_one.mend()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Nodes]:
    """A master with one core; other nodes may join."""
    with running_nodes(tmp_path, "127.0.0.1 1", 1) as nodes:
        yield nodes


def workers(nodes: Nodes, host: str) -> int:
    """Workers of a node, as the broker counts them."""
    return next((node.worker_count for node in nodes.status().nodes if node.host == host), 0)


def test_stop_drains_and_start_serves_again_without_loss(two: Nodes, tmp_path: Path) -> None:
    """The task that runs is finished where it is, nothing is run twice, the rest goes to the other node."""
    gate, before = tmp_path / "gate", two.status().totals.requeued_count
    with two.cluster() as cluster, cluster.executor() as executor:
        held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(2)]
        wait_until(lambda: [node.running_count for node in two.status().nodes] == [1, 1])

        stopped = two.agentctl(2, "stop", "--no-wait", "--output", "json")
        assert json.loads(stopped.stdout)["service"] == "stopped"
        assert two.node(2)["workers"], "its task still runs"
        gate.touch()
        assert [call.result(60) for call in held] == [str(gate)] * 2
        waited = two.agentctl(2, "stop")
        assert sum(executor.map(sdk_calls.take_a_moment, range(COUNT))) == TOTAL
        assert two.up() == ["127.0.0.1"]
        assert workers(two, "127.0.0.2") == 0

        started = two.agentctl(2, "start", "all", "--output", "quiet")
        wait_until(lambda: two.up() == ["127.0.0.1", "127.0.0.2"])
        assert sum(executor.map(sdk_calls.take_a_moment, range(COUNT))) == TOTAL

    assert waited.returncode == started.returncode == 0
    assert "agentctl start" in waited.stderr
    assert started.stdout.strip() == two.node(2)["node"]
    assert two.status().totals.requeued_count == before


def test_kill_ends_workers_at_once_and_their_tasks_run_elsewhere(two: Nodes, tmp_path: Path) -> None:
    """A task that would not end is no obstacle."""
    gate = tmp_path / "gate"
    with two.cluster() as cluster, cluster.executor() as executor:
        held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(2)]
        wait_until(lambda: [node.running_count for node in two.status().nodes] == [1, 1])

        killed = two.agentctl(2, "kill", "--output", "json")
        gate.touch()

        assert json.loads(killed.stdout)["workers"] == 0
        assert [call.result(60) for call in held] == [str(gate)] * 2
    assert two.up() == ["127.0.0.1"]


def test_stopped_node_stays_stopped_when_its_agent_is_started_again(two: Nodes) -> None:
    """Also after kill -9; what it serves at most is remembered too."""
    assert two.agentctl(2, "start", 1).returncode == 0
    assert two.agentctl(2, "stop").returncode == 0
    assert node_state.read(two.settings_of(2).state_dir) == node_state.NodeState(1, is_stopped=True)

    record = two.settings_of(2).run_dir / "agent.json"
    os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
    wait_until(lambda: two.agentctl(2, "status").returncode == 3)
    two.agent(2)

    assert two.node(2)["service"] == "stopped"
    wait_until(lambda: two.status().nodes[1].state == "stopped")


def test_restart_loads_a_new_template(two: Nodes) -> None:
    """And the node serves again."""
    before, log_before = two.node(2), two.agentctl(2, "logs").stdout

    done = two.agentctl(2, "restart", "--output", "json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["service"] == before["service"] == "serving"
    wait_until(lambda: len(two.up()) == 2)
    log = two.agentctl(2, "logs").stdout
    assert log.count("template_ready") > log_before.count("template_ready")


def test_join_and_leave_under_running_tasks(one: Nodes, tmp_path: Path) -> None:
    """A node that nobody configured takes part, survives a new broker, and leaves without a loss."""
    one.agent(2)
    gate = tmp_path / "gate"

    assert one.agentctl(2, "start", 1).returncode == 0
    joined = one.agentctl(2, "join", "127.0.0.1", "--output", "json")
    assert joined.returncode == 0, joined.stderr
    assert json.loads(joined.stdout)["master"] == one.master.broker_address
    wait_until(lambda: one.up() == ["127.0.0.1", "127.0.0.2"])
    with one.cluster() as cluster, cluster.executor() as executor:
        held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(2)]
        wait_until(lambda: [node.running_count for node in one.status().nodes] == [1, 1])
        command = [str(Path(sys.executable).with_name("agentctl")), "--state-dir"]
        settings = one.settings_of(2)
        leaving = subprocess.Popen(
            [*command, str(settings.state_dir), "leave"],
            env=environment(settings),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert leaving.stderr is not None
            assert "1 worker has to end" in leaving.stderr.readline()
            assert one.node(2)["service"] == "leaving"
            gate.touch()
            assert [call.result(60) for call in held] == [str(gate)] * 2
            assert "has left" in leaving.communicate(timeout=60)[1]
        finally:
            leaving.kill()
            leaving.communicate()
        assert leaving.returncode == 0
        assert sum(executor.map(sdk_calls.take_a_moment, range(COUNT))) == TOTAL

    assert [node.host for node in one.status().nodes] == ["127.0.0.1"]
    assert one.status().totals.requeued_count == 0
    assert one.node(2)["master"] == ""


def test_joined_node_comes_back_to_a_new_broker_and_with_a_new_agent(one: Nodes, tmp_path: Path) -> None:
    """Without anybody's help, and once; what its workers ran is not run again."""
    agent = one.agent(2)
    gate = tmp_path / "gate"
    assert one.agentctl(2, "start", 1).returncode == 0
    assert one.agentctl(2, "join").returncode == 0  # the default is the configured master

    with one.cluster() as cluster, cluster.executor() as executor:
        held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(2)]
        wait_until(lambda: [node.running_count for node in one.status().nodes] == [1, 1])
        results = executor.map(sdk_calls.take_a_moment, range(COUNT))
        one.broker.stop(signal.SIGKILL)
        one.broker.start()
        wait_until(lambda: one.up() == ["127.0.0.1", "127.0.0.2"])
        gate.touch()
        assert sum(results) == TOTAL
        assert [call.result(60) for call in held] == [str(gate)] * 2
        assert one.status().totals.requeued_count == 0
    agent.stop()
    agent.start()
    wait_until(lambda: one.node(2)["is_watched"])

    assert one.node(2)["master"] == one.master.broker_address
    assert [node.host for node in one.status().nodes] == ["127.0.0.1", "127.0.0.2"]


def test_joined_node_that_is_gone_for_good_can_be_forgotten(one: Nodes, tmp_path: Path) -> None:
    """Not one that answers, and not one of the configuration; one that comes back after all joins again."""
    agent = one.agent(2)
    gate = tmp_path / "gate"
    assert one.agentctl(2, "start", 1).returncode == 0
    assert one.agentctl(2, "join").returncode == 0
    wait_until(lambda: one.up() == ["127.0.0.1", "127.0.0.2"])

    alive = one.quakegrid("workers", "forget", "127.0.0.2")
    with one.cluster() as cluster, cluster.executor() as executor:
        held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(2)]
        wait_until(lambda: [node.running_count for node in one.status().nodes] == [1, 1])
        agent.stop(signal.SIGKILL)
        wait_until(lambda: one.up() == ["127.0.0.1"])
        forgotten = one.quakegrid("workers", "forget", "127.0.0.2", "--output", "json")
        gate.touch()
        assert [call.result(60) for call in held] == [str(gate)] * 2
    configured = one.quakegrid("workers", "forget", "127.0.0.1")
    unknown = one.quakegrid("workers", "forget", "n9")
    agent.start()
    wait_until(lambda: one.up() == ["127.0.0.1", "127.0.0.2"])

    assert alive.returncode == configured.returncode == unknown.returncode == 1
    assert "its agent answers: `agentctl leave`" in alive.stderr
    assert "127.0.0.1 is in host_cores" in configured.stderr
    assert "no node n9; its nodes are 127.0.0.1" in unknown.stderr
    assert forgotten.returncode == 0, forgotten.stderr
    assert "127.0.0.2 is forgotten" in forgotten.stderr
    assert [node["host"] for node in json.loads(forgotten.stdout)] == ["127.0.0.1"]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short path: an agent's socket lies far below it, and Linux allows 107 characters."""
    with tempfile.TemporaryDirectory(prefix="qg") as folder:
        yield Path(folder)


def serve_as_guest(nodes: Nodes, temporary: Path) -> subprocess.Popen[bytes]:
    """An agent as a scheduler starts it: any port, no state directory of its own, leaves when stopped."""
    temporary.mkdir()
    environ = environment(nodes.settings_of(2)) | {"TMPDIR": str(temporary)}
    options = ["--port", "0", "--temporary", "--leave", "60", "--claims", str(temporary / "cores")]
    command = [str(AGENTCTL), "serve", "--join", "127.0.0.1", "--cores", "1", *options]
    process = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(nodes.up()) == 2)
    return process


def test_guest_that_is_stopped_finishes_its_task_and_leaves(
    one: Nodes, tmp_path: Path, short_path: Path
) -> None:
    """Nothing is run twice, the master forgets it, and its state directory is gone."""
    gate, temporary = tmp_path / "gate", short_path / "temporary"
    guest = serve_as_guest(one, temporary)
    with one.cluster() as cluster, cluster.executor() as executor:
        held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(2)]
        wait_until(lambda: [node.running_count for node in one.status().nodes] == [1, 1])
        assert len(list(temporary.glob("quakegrid-*"))) == 1

        guest.terminate()
        wait_until(lambda: len(one.up()) == 1)
        assert guest.poll() is None
        gate.touch()

        assert guest.wait(60) == 0
        assert [call.result(60) for call in held] == [str(gate)] * 2
    assert [node.host for node in one.status().nodes] == ["127.0.0.1"]
    assert one.status().totals.requeued_count == 0
    assert list(temporary.glob("quakegrid-*")) == []


def test_guest_leaves_at_once_when_told_twice_and_its_task_is_not_to_blame(
    one: Nodes, tmp_path: Path, short_path: Path
) -> None:
    """Also where the scheduler terminates workers and template itself; what ran is run elsewhere."""
    gate = tmp_path / "gate"
    with one.cluster() as cluster, cluster.executor() as executor:
        for number in range(MORE_THAN_MAX_ATTEMPTS):
            guest = serve_as_guest(one, short_path / f"temporary{number}")
            if number == 0:
                held = [executor.submit_weighted(1.0, sdk_calls.wait_for, str(gate)) for _ in range(2)]
            wait_until(lambda: [node.running_count for node in one.status().nodes] == [1, 1])

            everyone = [psutil.Process(guest.pid), *psutil.Process(guest.pid).children(recursive=True)]
            for process in everyone:
                process.terminate()
            guest.send_signal(signal.SIGINT)

            assert guest.wait(30) == 0
            wait_until(lambda: len(one.status().nodes) == 1)
        gate.touch()
        assert [call.result(60) for call in held] == [str(gate)] * 2


def test_serve_join_belongs_to_a_master_that_comes_later(one: Nodes) -> None:
    """The agent asks until the broker is there."""
    one.broker.stop()
    settings = one.settings_of(2)
    command = [str(Path(sys.executable).with_name("agentctl")), "--state-dir", str(settings.state_dir)]
    agent = subprocess.Popen(
        [*command, "serve", "--join", "127.0.0.1"], env=environment(settings), stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: one.agentctl(2, "status").returncode == 0)
        one.broker.start()

        wait_until(lambda: "127.0.0.2" in one.up())
        # These find the agent where it listens, which is not 127.0.0.1.
        assert one.agentctl(2, "cores", "1").returncode == 0
        assert one.agentctl(2, "cores", "99999999999").returncode == 2
        findings = json.loads(one.agentctl(2, "doctor", "--output", "json").stdout)["findings"]
        broken = [each["what"] for each in findings if each["severity"] == "breaks"]
        assert not [what for what in broken if what.startswith("agent ")], broken
    finally:
        agent.terminate()
        assert agent.wait(30) == 0


def test_node_that_no_master_has_says_so(one: Nodes) -> None:
    """It joined an address where nobody answers; its settings name the right one."""
    settings = one.settings_of(2)
    nowhere = f"127.0.0.9:{settings.broker_port}"
    command = [str(AGENTCTL), "--state-dir", str(settings.state_dir), "serve", "--join", nowhere]
    agent = subprocess.Popen(command, env=environment(settings), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: one.agentctl(2, "status").returncode == 0)

        status = one.agentctl(2, "status")
        doctor = one.agentctl(2, "doctor")
    finally:
        agent.terminate()
        assert agent.wait(30) == 0

    assert f"{nowhere} (not joined yet: agentctl doctor)" in status.stdout
    assert doctor.returncode == 1
    assert f"broker {nowhere}" in doctor.stdout


def test_node_that_is_configured_by_another_name_is_not_joined_twice(tmp_path: Path) -> None:
    """The broker knows the process that serves it."""
    with running_nodes(tmp_path, "localhost 1") as nodes:
        nodes.agent(1)
        wait_until(lambda: nodes.up() == ["localhost"])

        done = nodes.agentctl(1, "join")

        assert done.returncode == 0
        assert "as localhost" in done.stderr
        assert nodes.up() == ["localhost"]


def test_agent_that_joins_before_its_configured_name_is_tried_counts_once(tmp_path: Path) -> None:
    """As with `serve --join` on a node of `host_cores`."""
    with running_nodes(tmp_path, "localhost 1") as nodes:
        node_state.change(nodes.master.state_dir, master=nodes.master.broker_address)
        nodes.agent(1)

        wait_until(lambda: nodes.up() == ["localhost"])
        wait_until(lambda: [node.host for node in nodes.status().nodes] == ["localhost"])
        log = (nodes.master.state_dir / "broker.log").read_text()

    assert log.count("node_joined host=127.0.0.1") == log.count("node_left host=127.0.0.1 reason")


def test_join_of_a_configured_node_changes_nothing(two: Nodes) -> None:
    """The master says that it has the node; there is nothing to leave."""
    done = two.agentctl(2, "join")
    left = two.agentctl(2, "leave")

    assert done.returncode == 0
    assert "has this node already, as 127.0.0.2" in done.stderr
    assert left.returncode == 1
    assert "joined no fleet" in left.stderr
    assert len(two.status().nodes) == 2


def test_join_of_a_master_that_does_not_answer_says_so(one: Nodes) -> None:
    """And keeps nothing."""
    one.broker.stop()

    done = one.agentctl(1, "join", "127.0.0.1")

    assert done.returncode == 3
    assert f"broker {one.master.broker_address} refuses: nothing listens there" in done.stderr
    assert one.node(1)["master"] == ""


def test_leave_force_forgets_a_master_that_is_no_more(one: Nodes) -> None:
    """Without --force the node stays a member."""
    one.agent(2)
    assert one.agentctl(2, "join").returncode == 0
    one.broker.stop()

    asked = one.agentctl(2, "leave")
    forced = one.agentctl(2, "leave", "--force")

    assert (asked.returncode, forced.returncode) == (3, 0)
    assert one.node(2)["master"] == ""


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        (("start", 9999), 2, "cores"),
        (("start", "many"), 2, "number of cores"),
        (("start", 0), 2, "agentctl stop"),
        (("leave",), 1, "joined no fleet"),
        (("join", "no.such.host.invalid"), 3, "no way"),
    ],
)
def test_what_cannot_be_done_is_told(same: Nodes, args: tuple[object, ...], code: int, word: str) -> None:
    """In one line, with an exit code."""
    done = same.agentctl(1, *args)

    assert done.returncode == code
    assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_without_an_agent_every_command_says_so(tmp_path: Path) -> None:
    """Exit code 3."""
    settings = make_state(tmp_path)
    nodes = [str(Path(sys.executable).with_name("agentctl")), "--state-dir", str(settings.state_dir)]
    for command in ("status", "start", "stop", "kill", "restart", "leave", "logs"):
        done = subprocess.run(
            [*nodes, command],
            env=environment(settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, "does not answer" in done.stderr) == (3, True), command


def test_logs_follow_shows_new_lines(same: Nodes) -> None:
    """As they come."""
    settings = same.settings_of(1)
    command = [str(Path(sys.executable).with_name("agentctl")), "--state-dir", str(settings.state_dir)]
    following = subprocess.Popen(
        [*command, "logs", "--follow", "--lines", "1"],
        env=environment(settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert following.stdout is not None
        assert following.stdout.readline()
        assert same.agentctl(1, "stop").returncode == 0

        line = following.stdout.readline()
    finally:
        following.send_signal(signal.SIGINT)
        following.communicate()

    assert "serving state=SERVICE_STATE_STOPPED" in line
    lines = json.loads(same.agentctl(1, "logs", "--lines", 2, "--output", "json").stdout)
    assert len(lines) == 2


def test_status_watch_prints_a_document_a_line(same: Nodes) -> None:
    """The first at once, then each change; it is no broker that watches."""
    settings = same.settings_of(1)
    command = [str(Path(sys.executable).with_name("agentctl")), "--state-dir", str(settings.state_dir)]
    watching = subprocess.Popen(
        [*command, "status", "--watch", "--output", "json"],
        env=environment(settings),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert same.agentctl(1, "stop").returncode == 0
        told = map(json.loads, watching.stdout)  # changes of memory and load may come first
        second = next(status for status in told if status["service"] != first["service"])
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate()

    assert (first["service"], second["service"]) == ("serving", "stopped")
    assert watching.returncode == 4


def test_health_and_reflection_are_served(same: Nodes) -> None:
    """By the agent as by the other services."""
    channel = grpc_channels.open_channel(f"127.0.0.1:{same.master.agent_port}", same.master.authkey)
    try:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "quakegrid.internal.v1.Orders", "quakegrid.api.v1.Nodes"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        (listed,) = reflection.ServerReflectionInfo(iter([request]), timeout=30)
    finally:
        channel.close()

    names = {service.name for service in listed.list_services_response.service}
    assert names >= {"quakegrid.internal.v1.Orders", "quakegrid.api.v1.Nodes", "grpc.health.v1.Health"}
