"""A machine with accounts, and a cluster on it, for all tests of this folder; both without the engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.people.cluster import PeopleCluster, configuration, running_cluster
from tests.people.machine import CAPABILITIES, Machine, refusal
from tests.people.workers import WorkerOrders


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """A machine with accounts; skipped with the reason where there can be none."""
    if why := refusal():
        pytest.skip(why)
    with Machine() as machine:
        yield machine


@pytest.fixture(scope="session")
def people(machine: Machine) -> Iterator[PeopleCluster]:
    """A cluster whose agent may change users. Its nodes have no engine."""
    with running_cluster(machine) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def workers() -> Iterator[WorkerOrders]:
    """Workers of people on a machine without a broker, which would end what it did not order."""
    if why := refusal():
        pytest.skip(why)
    with Machine() as machine:
        cluster = PeopleCluster(machine, configuration())
        cluster.start("dbserver")
        cluster.start("agent", CAPABILITIES)
        orders = WorkerOrders(cluster)
        yield orders
        orders.close()
        cluster.close()
