"""The plain engine at work, in processes of its own, to judge QuakeGrid by."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quakegrid import testing
from tests.engine.cases import PARAMS, Case, Job, prepare

TIMEOUT_S = 600
# Tasks in its own process. What is in the order of hashes of texts is as in our templates: one seed for both.
ENVIRON = {"OQ_DISTRIBUTE": "no", "PYTHONHASHSEED": "0"}
SCRIPT = Path(__file__).with_name("plain_engine.py")


@dataclass(frozen=True)
class PlainRuns:
    """The plain engine at work on cases, each of which has its results when it is over.

    Args:
        process: a loaded engine, which forks one for each job.
        folder: where the results are.
        log: what it says.
    """

    process: subprocess.Popen[bytes]
    folder: Path
    log: Path

    def path(self, name: str) -> Path:
        """Where the results of a case will be."""
        return self.folder / f"{name.replace('/', '~')}.json"

    def ends(self, name: str, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
        """Wait for a case; how its jobs ended, as `plain_engine.py` tells it."""
        path, end_s = self.path(name), time.monotonic() + timeout_s
        while not path.exists():
            is_over = self.process.poll() is not None and not path.exists()
            assert not is_over, self.log.read_text(encoding="utf-8")
            assert time.monotonic() < end_s, f"the plain engine is not done with {name}"
            time.sleep(0.01)
        found = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(found, list)
        return found


@contextlib.contextmanager
def running_plain_jobs(
    root: Path, runs: Sequence[Mapping[str, Any]], side_by_side: int = 1
) -> Iterator[PlainRuns]:
    """The plain engine, started on cases as `plain_engine.py` takes them.

    Args:
        root: an existing directory for all files.
        runs: the cases.
        side_by_side: so many at once.
    """
    runs_path, log_path = root / "runs.json", root / "log.txt"
    runs_path.write_text(json.dumps(runs, default=str), encoding="utf-8")
    environ = testing.isolated_environ(root) | ENVIRON
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, runs_path, root, str(side_by_side)],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield PlainRuns(process, root, log_path)
    finally:
        with contextlib.suppress(ProcessLookupError):  # none is left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@dataclass
class PlainEngine:
    """The plain engine at work on some of `CASES`."""

    runs: PlainRuns
    jobs: dict[str, list[Job]]

    def exports(self, case: Case) -> list[Path]:
        """Wait for a case; the directories with its exports, a directory a job."""
        errors = [end["error"] for end in self.runs.ends(case.folder) if end["error"]]
        assert not errors, errors[0]
        return [job.export_dir for job in self.jobs[case.folder]]


@contextlib.contextmanager
def running_plain_engine(
    root: Path, cases: Iterable[Case], params: Mapping[str, str] = PARAMS
) -> Iterator[PlainEngine]:
    """The plain engine, started on cases; each job but the first starts from the one before it.

    Args:
        root: an existing directory for all files.
        cases: what to run.
        params: of every job, beside its job file.
    """
    jobs = {case.folder: prepare(case, root / case.folder) for case in cases}
    runs = [
        {
            "name": name,
            "jobs": [
                {
                    "job_ini": job.job_ini,
                    "export_dir": job.export_dir,
                    "parent": number - 1 if number else None,
                }
                for number, job in enumerate(case_jobs)
            ],
            "params": dict(params),
        }
        for name, case_jobs in jobs.items()
    ]
    with running_plain_jobs(root, runs) as plain:
        yield PlainEngine(plain, jobs)
