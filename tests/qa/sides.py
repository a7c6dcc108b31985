"""Clusters of ours that run the job files: on one machine, with hidden files, or with deaths."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from tests.engine.late import idle
from tests.nofs.apart import Apart, running_apart
from tests.qa import deaths
from tests.support.clusters import QUAKEGRID, running_cluster
from tests.support.namespace_cluster import MASTER

# Calculations that execute at once. A third one keeps the cores busy while others begin and end.
SIDE_BY_SIDE = 3
SETTINGS = {"distribution": {"serialize_jobs": str(SIDE_BY_SIDE)}}
# Exports that can be made while tasks run are made then, on a machine that has no idle core, too.
PRELOAD = f"openquake, {idle.__name__}"
# Of the master, which gives none, and of two nodes.
CORES = (1, 1, 1)


class Mode(StrEnum):
    """What the nodes have to bear."""

    WHOLE = "whole"
    NOFS = "nofs"
    CHAOS = "chaos"


class NoSideError(Exception):
    """This machine, or this user, cannot have such a cluster."""


@dataclass(frozen=True)
class Side:
    """A cluster.

    Args:
        folder: where its drivers find inputs and leave exports.
        start: starts `quakegrid` with some arguments where the drivers are.
        facts: what the nodes had to bear, in numbers; is given the ids of all jobs by their files.
    """

    folder: Path
    start: Callable[..., subprocess.Popen[str]]
    facts: Callable[[Mapping[str, int]], dict[str, object]]


def running_side(mode: Mode) -> contextlib.AbstractContextManager[Side]:
    """A cluster for a mode."""
    return _here() if mode is Mode.WHOLE else _in_namespaces(mode)


@contextlib.contextmanager
def _here() -> Iterator[Side]:
    with tempfile.TemporaryDirectory(prefix="qgq") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        settings = {**SETTINGS, "agent": {"preload": PRELOAD}}
        with running_cluster(folder / "cluster", folder / "home", settings) as cluster:

            def start(*args: object) -> subprocess.Popen[str]:
                return subprocess.Popen(
                    cluster.command(*args),
                    env=cluster.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )

            yield Side(folder, start, lambda _job_ids: {})


@contextlib.contextmanager
def _in_namespaces(mode: Mode) -> Iterator[Side]:
    preload = f"{PRELOAD}, {deaths.__name__}" if mode is Mode.CHAOS else PRELOAD
    try:
        with running_apart(
            *CORES, preload=preload, more=SETTINGS, stale=(), is_apart=mode is Mode.NOFS
        ) as apart:
            written = apart.machines.directory / deaths.FOLDER
            written.mkdir()

            def start(*args: object) -> subprocess.Popen[str]:
                return apart.machines.start(QUAKEGRID, MASTER, *args)

            def facts(job_ids: Mapping[str, int]) -> dict[str, object]:
                return _deaths(written, job_ids) if mode is Mode.CHAOS else _served(apart)

            yield Side(apart.models, start, facts)
    except pytest.skip.Exception as exc:
        raise NoSideError(str(exc)) from exc


def _deaths(folder: Path, job_ids: Mapping[str, int]) -> dict[str, object]:
    """Who died in how many calculations, and the job files without a death: they have sent no task.

    Raises:
        NoSideError: nobody died.
    """
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    if not found:
        raise NoSideError(f"no worker died: have the nodes loaded {deaths.__name__}?")
    counts = Counter(found.values())
    return {
        "deaths": dict(sorted(counts.items())),
        "without a death": sorted(name for name, job_id in job_ids.items() if str(job_id) not in found),
    }


def _served(apart: Apart) -> dict[str, object]:
    """In how many calculations nodes were served files; in the others no task has read one."""
    path = apart.machines.cluster.state_dir(MASTER) / "db.sqlite3"
    query = "SELECT COUNT(DISTINCT job_id) FROM log WHERE message LIKE '%does not share%'"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return {"served": database.execute(query).fetchone()[0]}
