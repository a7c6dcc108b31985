"""A master and nodes in namespaces of their own, that see nothing of the master's files.

In their place the nodes have stale files: other ones of the same names at the same paths.
"""

from __future__ import annotations

import contextlib
import importlib.util
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.engine.cases import CASES, Case, Job, prepare
from tests.support.clusters import QUAKEGRID
from tests.support.namespace_cluster import MASTER
from tests.system.machines import Machines, running_machines

# What the engine splits work by, as in the runs of the plain engine.
PARAMS = {"concurrent_tasks": "4"}
NAMED = (1, 2)
GUEST = 3
# Numbers of calculations of which nodes have a stale datastore.
STALE_COUNT = 60


class Apart:
    """Machines that share nothing.

    Args:
        machines: with addresses of their own.
        stale: files, below the folder of models, of which the nodes have other ones.
        is_apart: the nodes do not see what the master sees.
        preload: as in `[agent] preload`.
    """

    def __init__(
        self,
        machines: Machines,
        stale: Sequence[Path],
        *,
        is_apart: bool = True,
        preload: str = "openquake",
    ) -> None:
        self.machines = machines
        self._stale, self._preload = stale, preload
        self.models = machines.directory / "models"
        self.home = machines.directory / f"h{MASTER}"
        self.models.mkdir()
        for node in machines.network.nodes:
            self.configure(node, is_apart=is_apart)

    @property
    def datadir(self) -> Path:
        """Where the master's drivers have their datastores."""
        return self.home / "oqdata"

    def configure(
        self,
        node: int,
        *,
        shm: str = "512m",
        more: str = "",
        is_apart: bool = True,
        preload: str = "",
    ) -> None:
        """Write a machine's settings: no shared folder, and shared memory of its own.

        Args:
            node: which one.
            shm: size of its shared memory.
            more: shell that its programs begin with.
            is_apart: it does not see what the master sees.
            preload: as in `[agent] preload`; empty for that of all machines.
        """
        lines = [f"mount -t tmpfs -o size={shm} none /dev/shm", more]
        if node != MASTER and is_apart:
            lines += [f"mount -t tmpfs none {folder}" for folder in (self.models, self.home)]
            lines += [f"mkdir -p {self.datadir}"]
            stems = [self.datadir / f"calc_{number}" for number in range(1, STALE_COUNT)]
            stale = [f"{stem}{suffix}.hdf5" for stem in stems for suffix in ("", "_tmp")]
            stale += [str(self.models / path) for path in self._stale]
            lines += [
                f"mkdir -p {shlex.quote(folder)}" for folder in sorted({str(Path(p).parent) for p in stale})
            ]
            lines += [f"echo stale > {shlex.quote(path)}" for path in stale]
        changes = {"directory": {"shared_dir": ""}, "agent": {"preload": preload or self._preload}}
        self.machines.configure(node, changes, prelude="\n".join(lines))

    @contextlib.contextmanager
    def changed(self, node: int, environ: Mapping[str, str] | None = None, **options: Any) -> Iterator[None]:
        """A node that is configured otherwise for a while; `environ` is added to its agent's environment."""
        self._restart(node, environ, **options)
        try:
            yield
        finally:
            self._restart(node)

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

    def served_nodes(self) -> set[str]:
        """The nodes that the last calculation's log names as served."""
        return {node for node in ("node1", "node2", "node3") if f"node {node} does not share" in self.log()}

    def wait_until_warm(self, *nodes: int) -> None:
        """Wait until nodes can work, and the broker knows."""
        for node in nodes:
            warm = self.machines.agentctl(node, "warm")
            assert warm.returncode == 0, warm.stderr
        self.machines.wait_for_cores({node: self.machines.cores[node] for node in NAMED})

    def _restart(self, node: int, environ: Mapping[str, str] | None = None, **options: Any) -> None:
        self.configure(node, **options)
        self.machines.stop_agent(node)
        self.machines.start_agent(node, environ=environ)
        self.wait_until_warm(node)


def _models() -> list[Path]:
    """The source models of all cases, as `Apart.run` puts them below its folder."""
    spec = importlib.util.find_spec("openquake")
    assert spec is not None
    roots = [Path(root, "qa_tests_data") for root in spec.submodule_search_locations or ()]
    return [
        Path(case.folder, "inputs", path.relative_to(root / case.folder))
        for root in roots
        for case in CASES
        for path in (root / case.folder).rglob("*.xml")
    ]


@contextlib.contextmanager
def running_apart(
    *cores: int,
    preload: str = "openquake",
    more: Mapping[str, Mapping[str, str]] | None = None,
    stale: Sequence[Path] | None = None,
    is_apart: bool = True,
) -> Iterator[Apart]:
    """A master and two nodes that are warm; the agent of a guest is not started yet.

    Args:
        *cores: of each machine, the master first.
        preload: as in `[agent] preload`.
        more: further settings of all machines.
        stale: see `Apart`; by default the source models of all cases.
        is_apart: see there.
    """
    with running_machines(*cores, configured=NAMED, preload=preload, more=more) as machines:
        apart = Apart(machines, _models() if stale is None else stale, is_apart=is_apart, preload=preload)
        for node in (MASTER, *NAMED):
            machines.start_agent(node)
        apart.wait_until_warm(MASTER, *NAMED)
        yield apart
