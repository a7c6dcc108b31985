"""Calculations whose tasks share arrays, on another machine than their driver's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.settings import config
from tests.engine.cases import Case, prepare
from tests.engine.conftest import PlainEngine
from tests.engine.exports import find_differences
from tests.support.nodes import Nodes, NodeService, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(900)]
CONDITIONED = Case("scenario_risk/conditioned")
APART = ["unshare", "--mount"]
WITH_OWN_MEMORY = [*APART, "sh", "-c", 'mount -t tmpfs qgtest /dev/shm && exec "$@"', "sh"]


class NodeApart(NodeService):
    """An agent that sees no shared memory of others, as on another machine."""

    @property
    def command(self) -> list[str]:
        """In a mount namespace of its own."""
        return [*WITH_OWN_MEMORY, *super().command]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """A node for drivers that gives no core, and one with workers that is apart."""
    if subprocess.run([*WITH_OWN_MEMORY, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a node apart needs root: unshare --mount, mount -t tmpfs")
    nodes = Nodes(tmp_path / "nodes", "127.0.0.2 2", engine=True)
    try:
        nodes.service(nodes.master, "dbserver")
        nodes.agent(1)
        apart = NodeApart(nodes.settings_of(2), "agent")
        nodes.keep(apart)
        wait_until(nodes.up, 280)
        yield nodes
    finally:
        nodes.close()


@pytest.mark.parametrize("case", [CONDITIONED], ids=lambda case: case.folder)
def test_shared_arrays_reach_workers_of_another_node(
    case: Case, nodes: Nodes, plain_engine: PlainEngine, tmp_path: Path
) -> None:
    """The ground motion fields of a conditioned scenario are those of the plain engine."""
    (job,) = prepare(case, tmp_path / "case")
    before = set(os.listdir("/dev/shm"))  # noqa: PTH208 - names

    done = nodes.quakegrid(
        "run", job.job_ini, "--exports", "csv", "--export-dir", job.export_dir, "-p", "concurrent_tasks=4"
    )
    (expected,) = plain_engine.exports(case)

    assert done.returncode == 0, done.stderr
    assert "Sent" in done.stdout + done.stderr
    assert find_differences(expected, job.export_dir) == []
    assert not [name for name in set(os.listdir("/dev/shm")) - before if name.startswith("psm_")]  # noqa: PTH208
    assert config.LOOPBACK not in nodes.up()
