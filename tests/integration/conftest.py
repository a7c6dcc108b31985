"""A dbserver in the test's process or in its own, and a client of the first; all in temporary directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.settings.config import Settings
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service, make_state


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a cluster of its own, with free ports and nothing running."""
    return make_state(tmp_path)


@pytest.fixture
def dbserver(settings: Settings) -> Iterator[LocalDbServer]:
    """A running dbserver, in this process."""
    server = LocalDbServer(settings)
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def dbserver_process(settings: Settings) -> Iterator[Service]:
    """A running dbserver in a process of its own, to signal and to kill."""
    service = Service(settings, "dbserver")
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture
def client(dbserver: LocalDbServer) -> Iterator[DbClient]:
    """A client of the running dbserver."""
    with DbClient(dbserver.settings) as client:
        yield client
