"""A real broker: its lanes, what it tells of itself, and what happens when a lane dies or a port is taken."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from quakegrid import LocalCluster, errors, testing
from quakegrid.clients import broker as fleet
from quakegrid.internal.v1 import sessions_pb2, sessions_pb2_grpc
from quakegrid.session.options import Needs, SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels
from quakegrid.transport.keys import lane_keys
from tests.support.calls import sdk_calls
from tests.support.clusters import QUAKEGRID
from tests.support.processes import Service

CPU_COUNT = len(os.sched_getaffinity(0))


def make_settings(folder: Path) -> Settings:
    """Settings of a cluster of its own; no node is up."""
    (folder / "home").mkdir()
    metrics_port = testing.free_ports(1)[0]
    path = testing.write_cluster_config(folder / "state", {"broker": {"metrics_port": metrics_port}})
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a cluster where nothing runs."""
    return make_settings(tmp_path)


@pytest.fixture
def broker(settings: Settings) -> Iterator[Service]:
    """A running broker."""
    service = Service(settings, "broker")
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running broker for tests of what it refuses."""
    service = Service(make_settings(tmp_path_factory.mktemp("lasting")), "broker")
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture
def client(broker: Service) -> Iterator[fleet.BrokerClient]:
    """A client of it."""
    with fleet.BrokerClient(broker.settings) as client:
        yield client


@contextlib.contextmanager
def open_session(settings: Settings, weight: float = 1.0) -> Iterator[Session]:
    """A session that has its turn."""
    session = Session(settings, SessionOptions("ann", b"", weight=weight))
    try:
        session.wait_for_turn(lambda _ahead: None)
        yield session
    finally:
        session.close()


def wait_for_lanes(client: fleet.BrokerClient, *states: str) -> list[fleet.LaneStatus]:
    """Wait until lanes are in these states."""
    for status in client.watch_status():
        if sorted(lane.state for lane in status.lanes) == sorted(states):
            return list(status.lanes)
    raise AssertionError("the broker stopped")


@pytest.mark.skipif(CPU_COUNT < 2, reason="a lane a core")
def test_two_sessions_have_a_lane_each() -> None:
    """And work side by side, each with its share of the cores."""
    with LocalCluster(cores=2) as cluster, fleet.BrokerClient(cluster.settings) as client:
        with cluster.executor() as first, cluster.executor() as second:
            results = [executor.map(sdk_calls.square, range(500)) for executor in (first, second)]

            assert [sum(result) for result in results] == [sum(n * n for n in range(500))] * 2
            ports = {session.lane_port for session in client.status().sessions}
            assert len(ports) == 2
            assert ports < set(cluster.settings.lane_ports)
            counted = next(found for found in client.watch_status() if found.totals.done_count)

        ended = next(found for found in client.watch_status() if not found.sessions)
        assert ended.totals.session_count == 2
        assert ended.totals.done_count >= counted.totals.done_count


@pytest.mark.skipif(CPU_COUNT < 2, reason="a lane a core")
def test_dead_lane_is_started_again_on_its_port(settings: Settings, client: fleet.BrokerClient) -> None:
    """Its session joins the new one without a word, and the other session hears nothing."""
    with open_session(settings) as first:
        lanes = wait_for_lanes(client, "open", "open")
        with open_session(settings) as second:
            ports = {each.session_id: each.lane_port for each in client.status().sessions}
            (victim,) = (lane for lane in lanes if lane.port == ports[first.session_id])

            os.kill(victim.pid, signal.SIGKILL)
            first.wait()  # for the new lane's hello

            after = wait_for_lanes(client, "open", "open")
            assert first.receive_ready() is second.receive_ready() is None
            assert victim.port in {lane.port for lane in after}
            assert victim.pid not in {lane.pid for lane in after}


def test_port_that_is_taken_is_passed_over(settings: Settings) -> None:
    """The session gets a lane on the next, and the status tells why."""
    service = Service(settings, "broker")
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", settings.lane_ports[0]))
        stranger.listen()
        try:
            service.start()
            with fleet.BrokerClient(settings) as client, open_session(settings):
                (session,) = client.status().sessions
                lanes = (lane for status in client.watch_status() for lane in status.lanes)
                refused = next(lane for lane in lanes if lane.state == "refused")
        finally:
            service.close()

    assert session.lane_port in settings.lane_ports[1:]
    assert refused.port == settings.lane_ports[0]
    assert "cannot listen" in refused.error


def test_without_a_free_port_sessions_fail_in_words_until_there_is_one(settings: Settings) -> None:
    """The broker tries again for each session."""
    service = Service(settings, "broker")
    with contextlib.ExitStack() as strangers:
        for port in settings.lane_ports:
            stranger = strangers.enter_context(socket.socket())
            stranger.bind(("127.0.0.1", port))
            stranger.listen()
        try:
            service.start()
            with (
                pytest.raises(errors.QuakeGridError, match=r"no lane can be started.*receiver_ports"),
                open_session(settings),
            ):
                pass
            strangers.close()
            with open_session(settings) as session:
                assert session.session_id
        finally:
            service.close()


def test_watch_tells_now_and_at_each_change_until_the_broker_stops(
    settings: Settings, broker: Service, client: fleet.BrokerClient
) -> None:
    """Each answer is complete."""
    watch = client.watch_status()

    assert next(watch).sessions == ()
    with open_session(settings, weight=2.5):
        status = next(status for status in watch if status.sessions)
        assert [(session.user_name, session.weight) for session in status.sessions] == [("ann", 2.5)]
        assert [node.is_up for node in status.nodes] == [False]
    assert next(status for status in watch if not status.sessions).totals.session_count == 1
    assert broker.stop(signal.SIGINT) == 0
    for _ in watch:
        pass


def test_calculation_that_begins_without_a_broker_says_so_and_waits(
    settings: Settings, broker: Service
) -> None:
    """Then it gets its turn."""
    broker.stop()
    said: queue.SimpleQueue[str] = queue.SimpleQueue()
    session = Session(settings, SessionOptions("ann", b"", (7,), needs=Needs({}, said.put)))
    try:
        sentence = said.get(timeout=60)
        broker.start()
        session.wait_for_turn(lambda _ahead: None)
    finally:
        session.close()

    assert sentence.startswith(f"the broker at {settings.broker_address} does not answer; waiting for it")
    assert said.empty()


def test_health_and_reflection_are_served(broker: Service) -> None:
    """Standard tools see what is here and whether it serves."""
    settings = broker.settings
    with grpc_channels.open_channel(settings.broker_address, settings.authkey) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "quakegrid.api.v1.Fleet"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        (found,) = stub.ServerReflectionInfo(iter([request]))
        names = {service.name for service in found.list_services_response.service}
        assert {"quakegrid.api.v1.Fleet", "grpc.health.v1.Health"} <= names


def test_metrics_are_the_same_over_both_ways(settings: Settings, client: fleet.BrokerClient) -> None:
    """The RPC needs the key; the HTTP port is open only if the settings name one."""
    with open_session(settings) as session:
        states = ["open"] * min(2, CPU_COUNT)
        wait_for_lanes(client, *states)
        over_rpc = client.metrics()
        url = f"http://127.0.0.1:{settings.broker_metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=30) as response:
            over_http = response.read().decode()

    lines = over_rpc.splitlines()
    assert over_http.splitlines() == lines
    assert 'quakegrid_node_up{host="127.0.0.1"} 0.0' in lines
    assert f'quakegrid_lanes{{state="open"}} {float(len(states))}' in lines
    assert "quakegrid_sessions_total 1.0" in lines
    assert f'quakegrid_session_workers{{job="",session="{session.session_id}"}} 0.0' in lines
    assert "ann" not in over_rpc


@pytest.mark.parametrize("weight", [-1.0, 1e9, float("nan"), float("inf")])
def test_weight_out_of_range_is_refused(lasting: Service, weight: float) -> None:
    """Nobody takes the cluster by a large number."""
    settings = lasting.settings
    with grpc_channels.open_channel(settings.broker_address, settings.authkey) as channel:
        request = sessions_pb2.OpenSessionRequest(weight=weight)
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            next(iter(sessions_pb2_grpc.SessionsStub(channel).OpenSession(request)))


@pytest.mark.parametrize(
    ("session_id", "refusal"),
    [
        (1, "is not this driver's"),
        (2**53 - 1, "is not this driver's"),
        (2**63 - 1, "there is no session 9223372036854775807"),
        (-1, "there is no session -1"),
    ],
)
def test_session_goes_on_with_its_own_driver_only(lasting: Service, session_id: int, refusal: str) -> None:
    """Who shows no token of a session gets neither it nor its number; the broker serves on."""
    settings = lasting.settings
    with grpc_channels.open_channel(settings.broker_address, settings.authkey) as channel:
        stub = sessions_pb2_grpc.SessionsStub(channel)
        for token in ("", "0" * 64, lane_keys.session_token(lane_keys.token_key("another"), session_id)):
            request = sessions_pb2.OpenSessionRequest(resumed_session_id=session_id, resumed_token=token)
            with pytest.raises(grpc.RpcError, match=refusal):
                next(iter(stub.OpenSession(request)))

    with open_session(settings) as session:
        assert session.session_id < 2**53 - 1


def test_metrics_port_that_is_taken_is_told(settings: Settings) -> None:
    """With the setting that changes it."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", settings.broker_metrics_port))
        stranger.listen()

        code, said = Service(settings, "broker").fail_to_start()

    assert code == 1
    assert "[broker] metrics_port" in said


def start_watch(settings: Settings, stdout: int, *args: str) -> subprocess.Popen[str]:
    """Start `quakegrid status --watch`."""
    command = [str(QUAKEGRID), "--state-dir", str(settings.state_dir), "status", "--watch", *args]
    environ = testing.isolated_environ(settings.state_dir) | {"TERM": "xterm", "COLUMNS": "120"}
    return subprocess.Popen(command, env=environ, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_status_watch_prints_a_document_a_line(settings: Settings, broker: Service) -> None:
    """It goes on through a restart of the broker and ends by Ctrl-C."""
    process = start_watch(settings, subprocess.PIPE, "--output", "json")
    try:
        assert process.stdout is not None
        documents = map(json.loads, process.stdout)
        first = next(documents)
        broker.stop()
        gone = next(document for document in documents if not document["lanes"])
        broker.start()
        back = next(document for document in documents if document["lanes"])
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()

    assert first["nodes"][0]["host"] == "127.0.0.1"
    assert gone["nodes"] == []
    assert back["totals"]["session_count"] == 0
    assert (process.returncode, said.strip()) == (4, "quakegrid: interrupted")


def test_status_watch_redraws_on_a_terminal(settings: Settings, broker: Service) -> None:
    """The tables of `status`, in place."""
    ours, theirs = os.openpty()
    try:
        process = start_watch(settings, theirs)
        try:
            seen = b""
            while b"driver pid" not in seen:
                with open_session(settings):
                    seen += os.read(ours, 65536)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
    finally:
        os.close(ours)
        os.close(theirs)

    assert process.returncode == 4
    assert b"not reached yet" in seen or b"does not answer" in seen


@pytest.mark.skipif(CPU_COUNT < 2, reason="a lane a core")
def test_lane_that_is_started_again_hears_who_shall_end(tmp_path: Path) -> None:
    """The core that a session gives back is not forgotten with its lane."""
    now, later = tmp_path / "now", tmp_path / "later"
    with (
        LocalCluster(cores=2) as cluster,
        fleet.BrokerClient(cluster.settings) as client,
        cluster.executor() as greedy,
    ):
        calls = [greedy.submit_weighted(2.0, sdk_calls.wait_for, str(now)) for _ in range(2)]
        calls += [greedy.submit_weighted(1.0, sdk_calls.wait_for, str(later)) for _ in range(4)]
        statuses = client.watch_status()
        next(status for status in statuses if [each.running_count for each in status.sessions] == [2])
        (lane,) = (lane for lane in client.status().lanes if lane.session_count)
        os.kill(lane.pid, signal.SIGSTOP)  # it hears of the drain and tells nobody
        with cluster.executor() as modest:
            wanted = modest.submit(sdk_calls.square, 3)
            os.kill(lane.pid, signal.SIGKILL)
            now.touch()

            assert wanted.result(60) == 9

        later.touch()
        assert [call.result(60) for call in calls] == [str(now)] * 2 + [str(later)] * 4
