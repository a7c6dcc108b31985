"""A calculation that needs an optional package of the engine says so, wherever one looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.parts import without_optional_parts
from tests.qa import catalogue
from tests.support.clusters import Cluster, running_cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
JOB_FILE = "infrastructure_risk/five_nodes_demsup_directed/job.ini"
WORDS = (
    "the engine needs the Python package networkx for infrastructure networks, and it is not installed. "
    "Install it into QuakeGrid's environment on all machines: pip install 'quakegrid[engine-optional]'"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose node lacks the optional parts."""
    preload = {"agent": {"preload": f"openquake, {without_optional_parts.__name__}"}}
    root, home = tmp_path_factory.mktemp("cluster"), tmp_path_factory.mktemp("home")
    with running_cluster(root, home, preload) as cluster:
        yield cluster


def test_missing_package_is_named_on_the_terminal_in_the_job_and_in_its_log(
    cluster: Cluster, tmp_path: Path
) -> None:
    """With the command that installs it; in place of what Python says of None."""
    catalogue.copy(catalogue.data_folder() / "infrastructure_risk", tmp_path / "infrastructure_risk")

    done = cluster.call("run", tmp_path / JOB_FILE, "--json")

    report = json.loads(done.stdout)
    assert report["jobs"][0]["error"] == WORDS
    assert f"failed: {WORDS}" in done.stderr
    assert cluster.job()["state_reason"] == WORDS
    assert WORDS in cluster.log()
