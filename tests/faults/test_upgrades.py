"""Services of another release: those that speak as we do take over, others are refused in words."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from quakegrid import Cluster, __version__, errors, testing
from quakegrid.access import principals
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.session.options import SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config
from quakegrid.transport import credentials as security
from quakegrid.transport import grpc_channels, lane_sockets
from tests.support.calls import sdk_calls
from tests.support.clusters import running_cluster
from tests.support.nodes import NodeService, wait_until
from tests.support.processes import Service
from tests.support.releases import NEWER, ReleasedService, make_release

TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
API = grpc_channels.API_VERSION + 1
PROTOCOL = lane_sockets.PROTOCOL_VERSION + 1
REMEDY = "install the same QuakeGrid on all machines"


@pytest.fixture
def settings(tmp_path: Path) -> config.Settings:
    """Of a cluster of one node without the engine."""
    (tmp_path / "home").mkdir()
    extra: dict[str, dict[str, str | int]] = {
        "agent": {"preload": "none"},
        "broker": {"node_timeout": 3},
        "zworkers": {"host_cores": f"{config.LOOPBACK} 2"},
    }
    path = testing.write_cluster_config(tmp_path / "state", extra)
    return config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})


@pytest.fixture
def newer_api(tmp_path: Path) -> Path:
    """A release whose API is another."""
    return make_release(tmp_path / "newer", api_version=API)


@contextmanager
def running(*services: Service) -> Iterator[None]:
    """Services that run."""
    with ExitStack() as stack:
        for service in services:
            stack.callback(service.close)
            service.start()
        yield


def says_both_versions(words: str, ours: int, theirs: int) -> bool:
    """Whether it names both, and what to do."""
    return bool(re.search(rf"version {theirs}\b.*version {ours}\b", words)) and REMEDY in words


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["restart", "kill"])
def test_newer_broker_and_dbserver_take_over_what_runs(
    settings: config.Settings, tmp_path: Path, number: signal.Signals
) -> None:
    """Tasks that run, calls that wait and logs on their way do not notice."""
    release, go = make_release(tmp_path / "newer"), tmp_path / "go"
    old = [NodeService(settings, name) for name in ("dbserver", "broker", "agent")]
    new = [ReleasedService(settings, name, release) for name in ("dbserver", "broker")]
    with running(*old), ExitStack() as stack:
        cluster = stack.enter_context(Cluster(settings.state_dir))
        database = stack.enter_context(DbClient(settings, retry_s=30))
        job_id = database.jobs.create_job(
            data_dir="/tmp", calculation_mode="c", description="d", user_name="a"
        ).id
        database.jobs.transition(job_id, JobState.EXECUTING)
        executor = stack.enter_context(cluster.executor())
        futures = [executor.submit(sdk_calls.wait_for, str(go)) for _ in range(6)]
        wait_until(lambda: sum(future.running() for future in futures) >= 2)

        for service in old[:2]:
            service.stop(number)
        stack.enter_context(running(*new))
        with BrokerClient(settings) as broker:
            wait_until(lambda: broker.status().sessions)
            version = broker.status().version
        go.touch()
        found = {future.result() for future in futures}
        database.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", "m")])
        database.jobs.transition(job_id, JobState.COMPLETE)

        assert version == NEWER
        assert found == {str(go)}
        assert database.jobs.get_job(job_id).state is JobState.COMPLETE


@pytest.mark.engine
@pytest.mark.full
@pytest.mark.timeout(900)
def test_newer_broker_and_dbserver_take_over_a_calculation(
    slow: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """It completes, and its log is whole."""
    release = make_release(tmp_path_factory.mktemp("release") / "newer")
    with running_cluster(tmp_path_factory.mktemp("upgrade"), tmp_path_factory.mktemp("home")) as cluster:
        running_job = cluster.start("run", "-v", slow)
        running_job.wait_for("Sent 3 event_based tasks")
        newer = dataclasses.replace(cluster, environ=cluster.environ | {"PYTHONPATH": str(release)})

        for service in ("broker", "dbserver"):
            cluster.kill_service(service)
        up = newer.call("up")
        code, output = running_job.finish()

        assert up.returncode == 0, up.stderr
        assert code == 0, output
        assert cluster.job()["state"] == "complete"
        assert "Exposing the outputs to the database" in cluster.log() + output


def test_dbserver_of_another_api_is_refused(settings: config.Settings, newer_api: Path) -> None:
    """By whoever calls it."""
    with (
        running(ReleasedService(settings, "dbserver", newer_api)),
        DbClient(settings) as client,
        pytest.raises(errors.StateError) as refusal,
    ):
        client.jobs.get_job(1)

    assert says_both_versions(str(refusal.value), grpc_channels.API_VERSION, API)
    assert __version__ in str(refusal.value)
    assert NEWER in str(refusal.value)


def test_broker_of_another_api_is_refused(settings: config.Settings, newer_api: Path) -> None:
    """By command lines and drivers."""
    with running(ReleasedService(settings, "broker", newer_api)):
        with BrokerClient(settings) as client, pytest.raises(errors.StateError) as by_command_line:
            client.status()
        session = Session(settings, SessionOptions("ann", b""))
        with pytest.raises(errors.StateError) as by_driver:
            session.wait_for_turn(lambda _ahead: None)
        session.close()

    assert says_both_versions(str(by_command_line.value), grpc_channels.API_VERSION, API)
    assert says_both_versions(str(by_driver.value), grpc_channels.API_VERSION, API)


def test_agent_of_another_api_is_no_node(settings: config.Settings, newer_api: Path) -> None:
    """The status says why it is not up."""
    services = NodeService(settings, "broker"), ReleasedService(settings, "agent", newer_api)
    with running(*services), BrokerClient(settings) as client:
        wait_until(lambda: "version" in client.status().nodes[0].state)
        (node,) = client.status().nodes

    assert not node.is_up
    assert says_both_versions(node.state, grpc_channels.API_VERSION, API)


def test_stranger_without_a_version_is_served(settings: config.Settings) -> None:
    """The API is public: a client that is not ours does not name its version."""
    with running(NodeService(settings, "broker")):
        credentials = security.channel_credentials(settings.authkey)
        options = [("grpc.ssl_target_name_override", principals.PEER_NAME)]
        with grpc.secure_channel(settings.broker_address, credentials, options=options) as channel:
            answer = channel.unary_unary("/quakegrid.api.v1.Fleet/GetStatus")(b"", timeout=30)

    assert answer


def test_call_that_an_older_service_does_not_know_is_explained(settings: config.Settings) -> None:
    """Within one version of the API calls are added."""
    with (
        running(NodeService(settings, "broker")),
        grpc_channels.open_channel(settings.broker_address, settings.authkey) as channel,
        pytest.raises(grpc.RpcError) as failure,
    ):
        channel.unary_unary("/quakegrid.api.v1.Fleet/Tomorrow")(b"", timeout=30)

    words = str(grpc_channels.translate(failure.value, "broker", settings.broker_address))
    assert "older than QuakeGrid" in words
    assert REMEDY in words


def test_lane_of_another_protocol_is_refused_by_drivers(settings: config.Settings, tmp_path: Path) -> None:
    """Though the broker speaks their API."""
    release = make_release(tmp_path / "newer", protocol_version=PROTOCOL)
    with running(ReleasedService(settings, "broker", release)):
        session = Session(settings, SessionOptions("ann", b""))
        with pytest.raises(errors.PeerError) as refusal:
            session.wait_for_turn(lambda _ahead: None)
        session.close()

    assert says_both_versions(str(refusal.value), lane_sockets.PROTOCOL_VERSION, PROTOCOL)


def test_node_of_another_protocol_is_left_out(settings: config.Settings, tmp_path: Path) -> None:
    """Its workers would be refused by every lane; so none starts."""
    release = make_release(tmp_path / "newer", protocol_version=PROTOCOL)
    services = NodeService(settings, "broker"), ReleasedService(settings, "agent", release)
    words = f"lane protocol {PROTOCOL} there, {lane_sockets.PROTOCOL_VERSION} here"
    with running(*services), Cluster(settings.state_dir) as cluster:
        wait_until(cluster.core_count)

        with pytest.raises(errors.QuakeGridError, match=words), cluster.executor() as executor:
            executor.submit(sdk_calls.square, 3).result(timeout=60)
