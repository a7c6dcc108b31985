"""Nodes whose environment differs from a driver's are left out by name, and the others go on."""

from __future__ import annotations

import configparser
import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quakegrid import Cluster as SdkCluster
from quakegrid import errors, testing
from quakegrid.clients import broker as fleet
from quakegrid.nodes import environment
from quakegrid.reports.explanations import explain
from quakegrid.session.options import Needs, SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings import config
from tests.support.clusters import Cluster, running_cluster
from tests.support.processes import Service

OTHER = "127.0.0.2"
NODES = {"host_cores": f"{config.LOOPBACK} 1, {OTHER} 1"}


class Node(Service):
    """The agent of another machine: an address and a state directory of its own, the cluster's ports and key.

    Args:
        master: state directory of the cluster.
        folder: for its own files.
        site: first on its import path.
        preload: as in `[agent] preload`.
    """

    def __init__(self, master: Path, folder: Path, site: Path, preload: str) -> None:
        (folder / "home").mkdir(parents=True)
        state_dir = folder / "state"
        state_dir.mkdir()
        parser = configparser.ConfigParser(interpolation=None)
        parser.read(master / config.CONFIG_NAME)
        parser.read_dict({"agent": {"listen": OTHER, "preload": preload}})
        path = state_dir / config.CONFIG_NAME
        with path.open("w") as stream:
            parser.write(stream)
        super().__init__(config.load_settings(state_dir, {"OQ_CONFIG_FILE": str(path)}), "agent")
        self._site = site

    @property
    def environment(self) -> dict[str, str]:
        """With its own modules and metadata before the installed ones."""
        return super().environment | {"PYTHONPATH": str(self._site)}


def other_numpy(site: Path) -> Path:
    """A folder of packages where numpy seems to be another one."""
    info = site / "numpy-1.0.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0.9\n")
    return site


def broken_server(site: Path) -> Path:
    """A folder of packages where drivers of the engine cannot be loaded, though its calculators can."""
    package = site / "openquake" / "server"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('half installed')\n")
    return site


def threaded_module(site: Path) -> Path:
    """A folder of packages with one that cannot be preloaded, so that nothing is."""
    site.mkdir()
    (site / "gridthread.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    return site


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[config.Settings]:
    """A cluster of two nodes without the engine, of which one has another numpy."""
    (tmp_path / "home").mkdir()
    extra = {"zworkers": NODES, "agent": {"preload": "none"}}
    path = testing.write_cluster_config(tmp_path / "state", extra)
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})
    services = [
        Service(settings, "broker"),
        Service(settings, "agent"),
        Node(settings.state_dir, tmp_path / "other", other_numpy(tmp_path / "site"), "none"),
    ]
    try:
        for service in services:
            service.start()
        wait_for_cores(settings, 2)
        yield settings
    finally:
        for service in services:
            service.close()


def wait_for_cores(settings: config.Settings, count: int) -> None:
    """Wait until so many cores of the cluster are up."""
    with fleet.BrokerClient(settings) as broker:
        next(found for found in broker.watch_status() if sum(n.core_count for n in found.nodes) == count)


@contextlib.contextmanager
def open_session(
    settings: config.Settings, fingerprint: dict[str, str], told: list[str]
) -> Iterator[Session]:
    """A session that asks for something."""
    needs = Needs(fingerprint, told.append)
    session = Session(settings, SessionOptions("ann", b"", needs=needs))
    try:
        yield session
    finally:
        session.close()


def failure_of(session: Session) -> str:
    """Why a session fails, before or after it has its turn."""
    try:
        session.wait_for_turn(lambda _ahead: None)
        session.receive()
    except errors.QuakeGridError as exc:
        return str(exc)
    raise AssertionError("an outcome came")


def test_node_that_differs_is_left_out_by_name(settings: config.Settings) -> None:
    """The session's driver and the status say so; its workers start on the other node."""
    numpy = environment.version_of("numpy")
    told: list[str] = []
    with open_session(settings, {"numpy": numpy}, told) as session:
        session.wait_for_turn(lambda _ahead: None)
        with fleet.BrokerClient(settings) as broker:
            status = next(found for found in broker.watch_status() if found.sessions[0].worker_count)

    difference = f"numpy 1.0.9 there, {numpy} here"
    one, other = status.nodes
    assert told == [f"node {socket.gethostname()} ({OTHER}) is left out: {difference}"]
    assert (one.worker_count, one.left_out) == (1, ())
    assert other.worker_count == 0
    assert [each.differences for each in other.left_out] == [(difference,)]
    sentences = explain(session.session_id, status, None)
    assert f"Node {socket.gethostname()} is left out: {difference}." in sentences


def test_session_that_no_node_fits_fails_with_every_difference(settings: config.Settings) -> None:
    """Instead of waiting for ever."""
    with open_session(settings, {"numpy": "7.7"}, []) as session:
        reason = failure_of(session)

    assert "every node is left out" in reason
    assert f"numpy {environment.version_of('numpy')} there, 7.7 here" in reason
    assert "numpy 1.0.9 there, 7.7 here" in reason


def test_executor_asks_only_for_what_it_needs(
    settings: config.Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions run on nodes whose numpy differs, too."""
    monkeypatch.setenv("OQ_CONFIG_FILE", str(settings.state_dir / config.CONFIG_NAME))
    with (
        SdkCluster(settings.state_dir) as cluster,
        cluster.executor(),
        fleet.BrokerClient(settings) as broker,
    ):
        found = next(each for each in broker.watch_status() if each.sessions[0].worker_count == 2)

    assert [node.left_out for node in found.nodes] == [(), ()]


@pytest.mark.engine
@pytest.mark.full
@pytest.mark.timeout(900)
def test_calculation_says_in_its_log_which_node_is_left_out(tmp_path: Path) -> None:
    """And completes on the others."""
    (tmp_path / "home").mkdir()
    case = testing.copy_engine_case("classical/case_01", tmp_path / "quick") / "job.ini"
    with running_cluster(tmp_path / "state", tmp_path / "home", {"zworkers": NODES}) as cluster:
        node = Node(cluster.state_dir, tmp_path / "other", other_numpy(tmp_path / "site"), "none")
        try:
            node.start()
            wait_for_cores(node.settings, 2)
            done = cluster.call("run", case)
            log = log_line(cluster)
        finally:
            node.close()

    assert done.returncode == 0, done.stderr
    assert f"node {socket.gethostname()} ({OTHER}) is left out: numpy 1.0.9 there, " in log
    assert "openquake.engine kept away there, " in log


@pytest.mark.engine
@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("make_site", "preload", "state"),
    [
        (broken_server, "openquake", "cold: openquake.engine cannot be loaded: ImportError: half installed"),
        (threaded_module, "openquake, gridthread", "cold: OSError: the template has 2 threads"),
    ],
)
def test_calculation_runs_on_a_cold_node(
    tmp_path: Path, make_site: Callable[[Path], Path], preload: str, state: str
) -> None:
    """Its workers load the engine by themselves; here no other node has any."""
    (tmp_path / "home").mkdir()
    case = testing.copy_engine_case("classical/case_01", tmp_path / "quick") / "job.ini"
    extra = {"zworkers": {"host_cores": f"{OTHER} 1"}}
    testing.write_cluster_config(tmp_path / "state", extra)
    cluster = Cluster(tmp_path / "state", testing.isolated_environ(tmp_path / "home"))
    node = Node(cluster.state_dir, tmp_path / "other", make_site(tmp_path / "site"), preload)
    try:
        assert cluster.call("up").returncode == 0
        node.start()
        wait_for_cores(node.settings, 1)
        (status,) = cluster.json("workers", "status")
        done = cluster.call("run", case)
    finally:
        node.close()
        cluster.call("down", "--force")

    assert status["state"].startswith(state)
    assert done.returncode == 0, done.stderr


def log_line(cluster: Cluster) -> str:
    """The line of the last job's log on a node that is left out."""
    lines = [line for line in cluster.log().splitlines() if "left out" in line]
    assert len(lines) == 1, cluster.log()
    return lines[0]
