"""What the plain engine makes of the job files; kept in a folder for the next time.

The folder's name has the engine's version and a digest of all that results depend on: the inputs, the other
packages, the parameters and the script that runs the engine.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.engine.cases import PARAMS
from tests.engine.plain_runs import ENVIRON, SCRIPT, PlainRuns, running_plain_jobs
from tests.qa import catalogue, verdicts
from tests.qa.catalogue import Group, JobFile
from tests.qa.verdicts import End

SIDE_BY_SIDE = 2
TIMEOUT_S = 7200.0
ENDS, INPUTS = "ends", "inputs"


class PlainResults:
    """Results of the plain engine, kept or being made.

    Args:
        folder: where they are kept.
        runs: the plain engine at work on those that are missing.
        work: the folder of this work.
    """

    def __init__(self, folder: Path, runs: PlainRuns | None, work: Path) -> None:
        self._folder, self._runs, self._work = folder, runs, work

    def end(self, group: Group, job: JobFile) -> End:
        """Wait for a group; how one of its jobs ended."""
        kept = kept_path(self._folder, group)
        if not kept.exists():
            assert self._runs is not None, "all others are kept"
            ends = [self._named(end) for end in self._runs.ends(group.name, TIMEOUT_S)]
            for each in group.jobs:
                _move(exports_path(self._work, each), exports_path(self._folder, each))
            partial = kept.with_suffix(".partial")
            partial.write_text(json.dumps(ends, indent=1), encoding="utf-8")
            partial.replace(kept)
        found = json.loads(kept.read_text(encoding="utf-8"))[group.jobs.index(job)]
        reason = f"{found['kind']}: {found['text']}" if found["error"] is not None else ""
        return End(reason, tuple(found["not_exported"]), found["seconds"])

    def known_seconds(self, group: Group) -> float:
        """How long a group took, if its results are kept."""
        kept = kept_path(self._folder, group)
        ends = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else []
        return sum(float(end["seconds"]) for end in ends)

    def exports(self, job: JobFile) -> Path:
        """Where the exports of a job are."""
        return exports_path(self._folder, job)

    def _named(self, end: dict[str, Any]) -> dict[str, Any]:
        """An end without this run's folders, and with the keys of what was not exported."""
        named = dict(end)
        places = {str(self._work / INPUTS): "INPUTS", str(self._work): "WORK"}
        for key in ("text", "error"):
            named[key] = end[key] and verdicts.without_places(end[key], places)
        named["not_exported"] = sorted(
            {line.partition("('")[2].partition("'")[0] for line in end["not_exported"]}
        )
        return named


def kept_path(folder: Path, group: Group) -> Path:
    """Where the ends of a group are kept."""
    return folder / ENDS / f"{group.name.replace('/', '~')}.json"


def exports_path(folder: Path, job: JobFile) -> Path:
    """Where the exports of a job are, below a folder."""
    return folder / "exports" / job.name


@contextlib.contextmanager
def plain_results(kept: Path, work: Path, groups: Sequence[Group], data: Path) -> Iterator[PlainResults]:
    """The plain engine's results; what is not kept is being made meanwhile.

    Args:
        kept: a folder for all results of all times.
        work: a folder for this time.
        groups: what is wanted.
        data: the engine's QA data.
    """
    stamp = catalogue.stamp(data, [SCRIPT.read_text(encoding="utf-8"), json.dumps(PARAMS | ENVIRON)])
    folder = kept / f"{catalogue.engine_version()}-{stamp}"
    (folder / ENDS).mkdir(parents=True, exist_ok=True)
    missing = [group for group in groups if not kept_path(folder, group).exists()]
    if not missing:
        yield PlainResults(folder, None, work)
        return
    catalogue.copy(data, work / INPUTS)
    with running_plain_jobs(work, [_run(group, work) for group in missing], SIDE_BY_SIDE) as runs:
        yield PlainResults(folder, runs, work)


def _move(fresh: Path, kept: Path) -> None:
    """Keep exports in place of what an earlier run has left that was killed."""
    shutil.rmtree(kept, ignore_errors=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(fresh, kept)


def _run(group: Group, work: Path) -> dict[str, Any]:
    """A group, as `plain_engine.py` takes it."""
    jobs = []
    for job in group.jobs:
        exports = exports_path(work, job)
        exports.mkdir(parents=True)
        parent = 0 if job.parent else None
        jobs.append({"job_ini": work / INPUTS / job.name, "export_dir": exports, "parent": parent})
    return {"name": group.name, "jobs": jobs, "params": dict(PARAMS)}
