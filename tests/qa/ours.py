"""What a cluster of ours makes of the job files; some run side by side."""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine.cases import PARAMS
from tests.qa import verdicts
from tests.qa.catalogue import Group, JobFile
from tests.qa.sides import SIDE_BY_SIDE, Side
from tests.qa.verdicts import End

# A calculation that takes longer hangs.
JOB_TIMEOUT_S = 900.0
NO_PARENT = "RuntimeError: the job that it starts from has failed"


@dataclass(frozen=True, slots=True)
class OurRun:
    """One run of a job file on the cluster.

    Args:
        job: which one.
        end: how it ended.
        exports: where its exports are.
        job_id: its id; 0 if it did not come to that.
    """

    job: JobFile
    end: End
    exports: Path
    job_id: int


def run_all(side: Side, groups: Sequence[Group], tree: Path) -> Iterator[list[OurRun]]:
    """Run all groups, some side by side; each is told when it is over.

    Args:
        side: the cluster.
        groups: what to run.
        tree: a copy of the QA data that its drivers see.
    """
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        futures = [pool.submit(_run_group, side, group, tree) for group in groups]
        try:
            for future in concurrent.futures.as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _run_group(side: Side, group: Group, tree: Path) -> list[OurRun]:
    runs: list[OurRun] = []
    for job in group.jobs:
        exports = side.folder / "exports" / job.name
        exports.mkdir(parents=True)
        parent = runs[0].job_id if job.parent else None
        if parent is not None and runs[0].end.reason:
            runs.append(OurRun(job, End(NO_PARENT), exports, 0))
            continue
        options = [f"-p{key}={value}" for key, value in PARAMS.items()]
        options += [] if parent is None else ["--hc", str(parent)]
        start_s = time.monotonic()
        process = side.start(
            "run", tree / job.name, "--exports", "csv", "--export-dir", exports, *options, "--json"
        )
        report = _report(process)
        end = _end(report, time.monotonic() - start_s, {str(tree): "INPUTS", str(side.folder): "WORK"})
        ids = [each["job_id"] for each in report["jobs"]]
        runs.append(OurRun(job, end, exports, ids[0] if ids else 0))
    return runs


def _report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What `quakegrid run` reports."""
    with process:
        try:
            out, err = process.communicate(timeout=JOB_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return {"jobs": [], "error": f"no end after {JOB_TIMEOUT_S:.0f} s", "not_exported": []}
    try:
        found = json.loads(out)
    except ValueError:
        words = f"exit code {process.returncode}, and no report: {err[-500:]}"
        return {"jobs": [], "error": words, "not_exported": []}
    assert isinstance(found, dict)
    return found


def _end(report: dict[str, Any], seconds: float, places: dict[str, str]) -> End:
    reasons = [each["error"] or each["state"] for each in report["jobs"] if each["state"] != "complete"]
    reasons += [report["error"]] if report["error"] else []
    reasons += [] if report["jobs"] or reasons else ["it has made no job, and says nothing"]
    reason = verdicts.without_places(reasons[0], places) if reasons else ""
    keys = sorted({line.partition(" as ")[0] for line in report["not_exported"]})
    return End(reason, tuple(keys), round(seconds, 2))
