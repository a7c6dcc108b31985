"""The plain engine at work, in a process of its own, to judge QuakeGrid by."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from quakegrid import testing
from tests.engine.cases import PARAMS, Case, Job, prepare

TIMEOUT_S = 600
SCRIPT = Path(__file__).with_name("plain_engine.py")


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


@contextlib.contextmanager
def running_plain_engine(
    root: Path, cases: Iterable[Case], params: Mapping[str, str] = PARAMS
) -> Iterator[PlainEngine]:
    """The plain engine, started on cases.

    Args:
        root: an existing directory for all files.
        cases: what to run.
        params: of every job, beside its job file.
    """
    jobs = {case.folder: prepare(case, root / case.folder) for case in cases}
    runs = [
        {"name": name, "jobs": [asdict(job) for job in case_jobs], "params": dict(params)}
        for name, case_jobs in jobs.items()
    ]
    runs_path, results_path, log_path = root / "runs.json", root / "results.json", root / "log.txt"
    runs_path.write_text(json.dumps(runs, default=str), encoding="utf-8")
    environ = testing.isolated_environ(root) | {"OQ_DISTRIBUTE": "no"}
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, runs_path, results_path],
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
