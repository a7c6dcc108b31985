"""A cluster for the whole session, and the results of the plain engine to judge it by.

Both start at once and warm up side by side: importing the engine takes each of them several seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.engine.cases import PARAMS, Case, Job
from tests.engine.plain_runs import PlainEngine, running_plain_engine
from tests.engine.web_servers import Server, our_server, running_plain_server
from tests.support.clusters import Cluster, running_cluster
from tests.support.processes import free_port


@pytest.fixture(scope="session")
def plain_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlainEngine]:
    """The plain engine, started on every case that this session selected."""
    cases = {case.folder: case for item in request.session.items if (case := _case_of(item))}
    with running_plain_engine(tmp_path_factory.mktemp("plain"), cases.values()) as plain_engine:
        yield plain_engine


def _case_of(item: Any) -> Case | None:
    """The case that a test is about, if it is about one."""
    callspec = getattr(item, "callspec", None)
    case = callspec.params.get("case") if callspec else None
    return case if isinstance(case, Case) else None


@pytest.fixture(scope="session")
def cluster(
    plain_engine: PlainEngine,  # started first, so that both warm up side by side
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """A cluster of this session's own, taken down at its end."""
    extra = {"web": {"port": str(free_port())}, "notify": {"hosts": "localhost"}}
    root, home = tmp_path_factory.mktemp("cluster"), tmp_path_factory.mktemp("home")
    with running_cluster(root, home, extra) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The plain engine's web server, with one calculation."""
    with running_plain_server(tmp_path_factory.mktemp("plain-web")) as server:
        yield server


@pytest.fixture(scope="session")
def ours(plain: Server, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Our web server, with the same calculation; the plain one is started first."""
    return our_server(cluster, tmp_path_factory.mktemp("ours"))


@contextlib.contextmanager
def preloaded_cluster(tmp_path_factory: pytest.TempPathFactory, module: str) -> Iterator[Cluster]:
    """A cluster whose templates load this module, too, as one that changes what drivers and workers see."""
    root, home = tmp_path_factory.mktemp("cluster"), tmp_path_factory.mktemp("home")
    with running_cluster(root, home, {"agent": {"preload": f"openquake, {module}"}}) as cluster:
        yield cluster


def run_job(cluster: Cluster, job: Job, parent_id: int | None = None) -> int:
    """Run one job to completion and export its outputs; returns its id."""
    params = [arg for key, value in PARAMS.items() for arg in ("-p", f"{key}={value}")]
    parent = [] if parent_id is None else ["--hc", parent_id]
    exports = ["--exports", "csv", "--export-dir", job.export_dir]
    (outcome,) = cluster.json("run", job.job_ini, *exports, *parent, *params)["jobs"]
    assert outcome["state"] == "complete", outcome
    return int(outcome["job_id"])
