"""A real agent under requests that cannot be obeyed: each is refused in words, and nothing is lost by it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from quakegrid import testing
from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.blobs import shared_memory
from quakegrid.clients import agent as agents
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.services.broker.lanes import door_keys
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels
from tests.support.nodes import wait_until
from tests.support.processes import Service

ENDPOINT = "tcp://127.0.0.1:1"
LANE_KEYS = door_keys.of_broker("a-key-of-some-cluster")
REQUEST = {"argv": ["info"], "cwd": "/", "environ": {}, "mode": "oq"}
TIMEOUT_S = 60.0


class Agent:
    """An agent without broker and engine."""

    def __init__(self, service: Service) -> None:
        self.settings, self.service = service.settings, service
        address = f"127.0.0.1:{self.settings.agent_port}"
        self.channel = grpc_channels.open_channel(address, self.settings.authkey)
        self.stub = orders_pb2_grpc.OrdersStub(self.channel)
        self.nodes = nodes_pb2_grpc.NodesStub(self.channel)

    def status(self) -> nodes_pb2.AgentStatus:
        """What it tells."""
        return self.nodes.GetStatus(nodes_pb2.GetAgentStatusRequest(), timeout=TIMEOUT_S).status

    @property
    def template(self) -> int:
        """Its template's pid."""
        assert self.service.process is not None
        (child,) = psutil.Process(self.service.process.pid).children()
        return child.pid

    def start(self, *names: str, **fields: Any) -> list[str]:
        """Ask for workers; the names of those that started."""
        refs = [orders_pb2.WorkerRef(session_id=7, worker_id=name) for name in names]
        request = orders_pb2.StartWorkersRequest(
            **{"workers": refs, "lane_endpoint": ENDPOINT, "width": 1, "lane_keys": LANE_KEYS} | fields
        )
        return [each.worker_id for each in self.stub.StartWorkers(request, timeout=TIMEOUT_S).started]

    def has_all_cores(self) -> bool:
        """Whether every core can be given to a worker; none has one afterwards."""
        count = self.status().core_count
        started = self.start(*(f"full-{number}" for number in range(count + 1)))
        self.stub.StopWorkers(orders_pb2.StopWorkersRequest(session_id=7, force=True), timeout=TIMEOUT_S)
        wait_until(lambda: not self.status().workers)
        return len(started) == count

    def say(self, *lines: bytes, fds: tuple[int, ...] = (0, 1, 2)) -> list[dict[str, Any]]:
        """Send lines to the unix socket, with descriptors; what comes back until it is closed."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT_S)
            client.connect(str(config.agent_socket(self.settings.state_dir)))
            answer = bytearray()
            with contextlib.suppress(ConnectionError):
                socket.send_fds(client, [lines[0]], list(fds))
                client.sendall(b"".join(lines[1:]))
                client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):  # it does not read what is too large
                while data := client.recv(1 << 16):
                    answer += data
        return [json.loads(line) for line in answer.split(b"\n") if line]


def make_settings(folder: Path) -> Settings:
    """Those of an agent without an engine."""
    (folder / "home").mkdir(parents=True)
    path = testing.write_cluster_config(folder / "state", {"agent": {"preload": "none"}})
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """One for all tests, which must leave it as it was."""
    service = Service(make_settings(tmp_path_factory.mktemp("doors")), "agent")
    service.start()
    found = Agent(service)
    try:
        wait_until(lambda: agents.template_state(found.status()).is_ready)
        template = found.template
        yield found
        assert found.template == template, "the template has died"
        assert found.has_all_cores()
        assert service.stop() == 0
    finally:
        found.channel.close()
        service.close()


@pytest.mark.parametrize(
    ("names", "fields"),
    [
        (["x" * 70_000], {}),
        ([""], {}),
        (["x" * (1 << 20)], {}),
        (["../../../x"], {}),
        (["a"], {"width": (1 << 32) - 1}),
        (["a"], {"lane_endpoint": "x" * 70_000}),
        (["a"] * 5000, {}),
    ],
)
def test_workers_that_cannot_be_are_refused(agent: Agent, names: list[str], fields: dict[str, Any]) -> None:
    """Before any core is taken, and before the template hears of it."""
    with pytest.raises(grpc.RpcError) as refused:
        agent.start(*names, **fields)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]
    assert not agent.status().workers
    assert agent.has_all_cores()


def test_widest_worker_that_may_be_asked_for_does_not_fit(agent: Agent) -> None:
    """That is a normal reply."""
    assert agent.start("a", width=1 << 16) == []
    assert agent.start() == []


def test_worker_that_is_asked_for_twice_starts_once(agent: Agent) -> None:
    """And gives its core back."""
    assert agent.start("twice", "twice") == ["twice"]
    assert agent.start("twice") == []
    agent.stub.StopWorkers(orders_pb2.StopWorkersRequest(session_id=7, force=True), timeout=TIMEOUT_S)
    wait_until(lambda: not agent.status().workers)


def test_odd_numbers_and_names_are_nobody(agent: Agent) -> None:
    """No driver, no process, no worker, no master."""
    for pid in (0, -1, 1 << 40, os.getpid()):
        assert not agent.stub.StopDriver(orders_pb2.StopDriverRequest(pid=pid), timeout=TIMEOUT_S).was_running
    for pid in (0, -1, 1 << 40):
        process = agent.stub.GetProcess(orders_pb2.GetProcessRequest(pid=pid), timeout=TIMEOUT_S)
        assert process.state == orders_pb2.PROCESS_STATE_GONE
    stopped = agent.stub.StopWorkers(orders_pb2.StopWorkersRequest(session_id=-5), timeout=TIMEOUT_S)
    assert stopped.stopped_count == 0
    agent.stub.FlushOutput(orders_pb2.FlushOutputRequest(session_id=-5), timeout=TIMEOUT_S)
    control = nodes_pb2_grpc.NodesStub(agent.channel)
    for master in ("a\0b", "x" * 70_000, "m:99999"):
        with pytest.raises(grpc.RpcError) as refused:
            control.Join(nodes_pb2.JoinRequest(master=master), timeout=TIMEOUT_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # type: ignore[attr-defined]


def test_worker_without_room_for_its_blobs_gives_its_core_back(agent: Agent) -> None:
    """What the machine refuses is told, and all is as before."""
    folder = shared_memory.folder(agent.settings.state_dir)
    folder.mkdir(mode=0o700, exist_ok=True)
    wait_until(lambda: not (folder / "7").exists())
    (folder / "7").touch()  # where that of the session would be
    try:
        with pytest.raises(grpc.RpcError, match="could not start workers"):
            agent.start("a", "b")
    finally:
        for left in folder.glob("7*"):  # the agent has put it aside
            left.unlink()

    assert not agent.status().workers
    assert agent.has_all_cores()


@pytest.mark.parametrize(
    "line",
    [
        b"x\n",
        b"[" * 100_000 + b"\n",
        b"x" * (9 << 20) + b"\n",
        json.dumps(REQUEST | {"argv": [1]}).encode() + b"\n",
        json.dumps(REQUEST | {"environ": {"A": 1}}).encode() + b"\n",
        json.dumps(REQUEST | {"cwd": "a\0b"}).encode() + b"\n",
        json.dumps(REQUEST).encode(),
    ],
)
def test_command_line_that_is_none_is_refused_in_words(agent: Agent, line: bytes) -> None:
    """And the status is told on."""
    answer = agent.say(line)

    assert [event["event"] for event in answer] == ["refused"]
    assert all(event["message"] for event in answer)
    assert not agent.status().drivers


def test_command_line_without_or_with_too_many_descriptors_is_refused(agent: Agent) -> None:
    """They are closed."""
    assert agent.service.process is not None
    process = psutil.Process(agent.service.process.pid)
    before = process.num_fds()
    line = json.dumps(REQUEST).encode() + b"\n"

    assert agent.say(line, fds=())[0]["event"] == "refused"
    assert agent.say(line, fds=(0,))[0]["event"] == "refused"

    wait_until(lambda: process.num_fds() <= before)


def test_driver_without_an_engine_is_refused_before_it_starts(agent: Agent) -> None:
    """Also in a mode with a log, and with signals behind the request, such as one that there is not."""
    for mode, fds in (("oq", (0, 1, 2)), ("run", (0, 1))):
        line = json.dumps(REQUEST | {"mode": mode}).encode() + b"\n"
        answer = agent.say(line, b'{"signal": 12345}\n', fds=fds)

        assert [event["event"] for event in answer] == ["refused"]
        assert "openquake" in answer[0]["message"]
    assert not agent.status().drivers


def test_agent_that_cannot_have_its_socket_says_so_before_it_starts_anything(tmp_path: Path) -> None:
    """A path that is too long, and a folder that is none."""
    long = tmp_path / ("x" * 100)
    code, words = Service(make_settings(long), "agent").fail_to_start()
    blocked = make_settings(tmp_path / "blocked")
    blocked.run_dir.touch()
    blocked_code, blocked_words = Service(blocked, "agent").fail_to_start()

    assert (code, blocked_code) == (1, 1)
    assert "shorter path" in words
    assert "cannot be used" in blocked_words
    assert "Traceback" not in words + blocked_words
