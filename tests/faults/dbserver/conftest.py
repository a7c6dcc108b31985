"""A dbserver in a process of its own, which these tests kill and measure, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quakegrid.clients.dbserver.client import DbClient
from tests.integration.conftest import dbserver_process
from tests.support.processes import Service

__all__ = ["client", "dbserver", "dbserver_process"]


@pytest.fixture
def dbserver(dbserver_process: Service) -> Service:
    """A running dbserver."""
    return dbserver_process


@pytest.fixture
def client(dbserver_process: Service) -> Iterator[DbClient]:
    """A client of the running dbserver."""
    with DbClient(dbserver_process.settings) as client:
        yield client
