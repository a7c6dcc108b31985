"""Fixtures with real processes in temporary directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.config import Settings
from quakegrid.jobs import DbClient
from tests.integration.processes import Service, make_state


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a cluster of its own, with free ports and nothing running."""
    return make_state(tmp_path)


@pytest.fixture
def dbserver(settings: Settings) -> Iterator[Service]:
    """A running dbserver."""
    service = Service(settings, "dbserver")
    try:
        service.start()
        yield service
    finally:
        service.close()


@pytest.fixture
def client(dbserver: Service) -> Iterator[DbClient]:
    """A client of the running dbserver."""
    with DbClient(dbserver.settings) as client:
        yield client
