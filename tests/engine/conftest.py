"""A cluster for the whole session, and the results of the plain engine to judge it by.

Both start at once and warm up side by side: importing the engine takes each of them several seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from quakegrid import testing
from tests.clusters import Cluster, running_cluster
from tests.engine.cases import PARAMS, Case, Job, prepare

TIMEOUT_S = 600


@dataclass
class PlainEngine:
    """The plain engine at work on some cases, in a process of its own."""

    process: subprocess.Popen[bytes]
    jobs: dict[str, list[Job]]
    log: Path
    results: Path

    def exports(self, case: Case) -> list[Path]:
        """Wait for all cases; the directories with the exports of one, a directory a job."""
        assert self.process.wait(TIMEOUT_S) == 0, self.log.read_text(encoding="utf-8")
        result = json.loads(self.results.read_text(encoding="utf-8"))[case.folder]
        assert result["error"] is None, result["error"]
        return [job.export_dir for job in self.jobs[case.folder]]


@pytest.fixture(scope="session")
def plain_engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlainEngine]:
    """The plain engine, started on every case that this session selected."""
    root = tmp_path_factory.mktemp("plain")
    cases = {case.folder: case for item in request.session.items if (case := _case_of(item))}
    jobs = {folder: prepare(case, root / folder) for folder, case in cases.items()}
    runs = [
        {"name": name, "jobs": [asdict(job) for job in case_jobs], "params": PARAMS}
        for name, case_jobs in jobs.items()
    ]
    runs_path, results_path, log_path = root / "runs.json", root / "results.json", root / "log.txt"
    runs_path.write_text(json.dumps(runs, default=str), encoding="utf-8")
    environ = testing.isolated_environ(root) | {"OQ_DISTRIBUTE": "no"}
    script = Path(__file__).with_name("plain_engine.py")
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, script, runs_path, results_path],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield PlainEngine(process, jobs, log_path, results_path)
    finally:
        process.kill()
        process.wait()


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
    with running_cluster(tmp_path_factory.mktemp("cluster"), tmp_path_factory.mktemp("home")) as cluster:
        yield cluster


def run_job(cluster: Cluster, job: Job, parent_id: int | None = None) -> int:
    """Run one job to completion and export its outputs; returns its id."""
    params = [arg for key, value in PARAMS.items() for arg in ("-p", f"{key}={value}")]
    parent = [] if parent_id is None else ["--hc", parent_id]
    exports = ["--exports", "csv", "--export-dir", job.export_dir]
    (outcome,) = cluster.json("run", job.job_ini, *exports, *parent, *params)["jobs"]
    assert outcome["state"] == "complete", outcome
    return int(outcome["job_id"])
