"""A master and nodes in namespaces of their own, that see nothing of the master's files."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.engine.cases import Case, Job, prepare
from tests.support.clusters import QUAKEGRID
from tests.support.namespace_cluster import MASTER
from tests.system.machines import Machines, running_machines

# What the engine splits work by, as in the runs of the plain engine.
PARAMS = {"concurrent_tasks": "4"}
NODES = (1, 2)


class Apart:
    """Machines that share nothing.

    Args:
        machines: with addresses of their own.
    """

    def __init__(self, machines: Machines) -> None:
        self.machines = machines
        self.models = machines.directory / "models"
        self.home = machines.directory / f"h{MASTER}"
        self.models.mkdir()
        for node in machines.network.nodes:
            self.configure(node)

    @property
    def datadir(self) -> Path:
        """Where the master's drivers have their datastores."""
        return self.home / "oqdata"

    def configure(self, node: int, *, shm: str = "512m", more: str = "") -> None:
        """Write a machine's settings: no shared folder, memory of its own; a node does not see the master's.

        Args:
            node: which one.
            shm: size of its shared memory.
            more: shell that its programs begin with.
        """
        mounts = [f"mount -t tmpfs -o size={shm} none /dev/shm"]
        if node != MASTER:
            mounts += [f"mount -t tmpfs none {folder}" for folder in (self.models, self.home)]
        prelude = "\n".join((*mounts, more))
        self.machines.configure(node, {"directory": {"shared_dir": ""}}, prelude=prelude)

    def start(self, job: Job, params: Mapping[str, str] = PARAMS, *more: object) -> subprocess.Popen[str]:
        """Start a calculation on the master."""
        args = [arg for key, value in params.items() for arg in ("-p", f"{key}={value}")]
        exports = ["--exports", "csv", "--export-dir", job.export_dir]
        return self.machines.start(QUAKEGRID, MASTER, "run", job.job_ini, *exports, *args, *more)

    def run(self, case: Case, name: str = "", params: Mapping[str, str] = PARAMS) -> list[Job]:
        """Run the jobs of a case, each on top of the one before."""
        jobs = prepare(case, self.models / (name or case.folder))
        for number, job in enumerate(jobs):
            with self.start(job, params, *(["--hc", "-1"] if number else [])) as running:
                _, err = running.communicate(timeout=300)
            assert running.returncode == 0, err
        return jobs

    def log(self) -> str:
        """The log of the last calculation."""
        return self.machines.quakegrid("jobs", "logs", "-1").stdout


@contextlib.contextmanager
def running_apart(cores: tuple[int, ...] = (1, 1, 1)) -> Iterator[Apart]:
    """A master and nodes that are warm."""
    with running_machines(*cores, configured=NODES, preload="openquake") as machines:
        apart = Apart(machines)
        for node in machines.network.nodes:
            machines.start_agent(node)
        machines.wait_for_cores({node: cores[node] for node in NODES})
        for node in machines.network.nodes:
            warm = machines.agentctl(node, "warm")
            assert warm.returncode == 0, warm.stderr
        machines.wait_for_cores({node: cores[node] for node in NODES})
        yield apart


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    """Two nodes with a core each."""
    with running_apart() as found:
        yield found
