"""A service that stops serving ends, so that whoever started it starts it again."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import config, health, testing
from quakegrid.config import Settings
from tests.integration import strangers
from tests.integration.nodes import NodeService
from tests.integration.processes import STOP_TIMEOUT_S, Service

BAD_PATH = b"/quakegrid\xff/x"


@pytest.fixture
def node(tmp_path: Path) -> Settings:
    """A cluster of one machine whose services are not started yet, without the engine."""
    (tmp_path / "home").mkdir()
    path = testing.write_cluster_config(tmp_path / "state", {"agent": {"preload": "none"}})
    return config.load_settings(tmp_path / "state", {"OQ_CONFIG_FILE": str(path)})


@pytest.fixture(params=["dbserver", "broker", "agent"])
def service(node: Settings, request: pytest.FixtureRequest) -> Iterator[NodeService]:
    """Each of the services, running."""
    service = NodeService(node, request.param)
    try:
        service.start()
        yield service
    finally:
        service.close()


def address_of(service: NodeService) -> str:
    """Where it listens."""
    settings = service.settings
    port = {
        "dbserver": settings.dbserver_port,
        "broker": settings.broker_port,
        "agent": settings.agent_port,
    }
    return f"127.0.0.1:{port[service.name]}"


def test_service_whose_port_is_closed_by_a_bad_path_ends(service: NodeService) -> None:
    """A request whose path is not UTF-8 ends gRPC's accept loop: the process must not live on without it."""
    strangers.call_path(address_of(service), service.settings.authkey, BAD_PATH)

    assert service.process is not None
    assert service.process.wait(STOP_TIMEOUT_S) == 1
    log = (service.settings.state_dir / f"{service.name}.log").read_text()
    assert "part_failed part=port" in log


def test_service_may_open_as_many_files_as_the_machine_allows(service: NodeService) -> None:
    """A thousand silent connections do not lock a service out."""
    assert service.process is not None
    limits = Path(f"/proc/{service.process.pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max open files"))
    soft, hard = line.split()[3:5]

    assert soft == hard


def test_stranger_without_the_key_writes_no_log(service: NodeService) -> None:
    """The words of a refused handshake are the stranger's, and so would be the size of the log."""
    log = service.settings.state_dir / f"{service.name}.log"
    before = log.read_bytes()

    for _ in range(20):
        assert not strangers.is_let_in(address_of(service), "forged\nserver_name.example")

    assert [line for line in log.read_bytes()[len(before) :].splitlines() if b"example" in line] == []


def test_silent_connections_are_closed_and_hold_up_nobody(dbserver: Service) -> None:
    """They would hold an open file each; gRPC's own limit is two minutes."""
    address = dbserver.settings.dbserver_address
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection((host, int(port)), 60)) for _ in range(300)]

        is_serving = health.is_serving(dbserver.settings, "dbserver")

        assert is_serving
        assert [connection.recv(1) for connection in silent] == [b""] * len(silent)
