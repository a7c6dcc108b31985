"""A machine with accounts, and a cluster on it, for all tests of this folder; one more has the engine."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from quakegrid import testing
from tests.people import numba_caches
from tests.people.accounts import ANNA, SERVICE, USERS_GROUP, WORKER
from tests.people.browser import Browser
from tests.people.cluster import PeopleCluster, Sections, configuration, running_cluster
from tests.people.machine import CAPABILITIES, Machine, refusal
from tests.people.workers import WorkerOrders

WITH_ENGINE: Sections = {
    "agent": {"group": USERS_GROUP, "worker_user": WORKER.name, "preload": "openquake"},
    "web": {"port": testing.free_ports(1)[0]},
}
KERNELS = SERVICE.home / "kernels"
CASE = ANNA.home / "case"


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
def engine() -> Iterator[PeopleCluster]:
    """A cluster with the engine, and a model in Anna's home, which nobody else may enter."""
    if why := refusal():
        pytest.skip(why)
    with Machine() as machine:
        numba_caches.copy(machine.path(KERNELS))
        testing.copy_engine_case("classical/case_01", machine.path(CASE))
        subprocess.run(["chown", "-R", f"{SERVICE.uid}:{SERVICE.uid}", machine.path(KERNELS)], check=True)
        subprocess.run(["chown", "-R", f"{ANNA.uid}:{ANNA.uid}", machine.path(CASE)], check=True)
        with running_cluster(machine, WITH_ENGINE, environ={"NUMBA_CACHE_DIR": str(KERNELS)}) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def web(engine: PeopleCluster) -> Iterator[Browser]:
    """The web service of the cluster with the engine."""
    engine.start("web")
    try:
        yield Browser(engine)
    finally:
        engine.stop("web")


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
