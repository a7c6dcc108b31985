"""Clusters of ours that run the job files: on one machine, with hidden files, or with deaths."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from tests.nofs.apart import running_apart
from tests.qa import deaths
from tests.support.clusters import QUAKEGRID, running_cluster
from tests.support.namespace_cluster import MASTER

# Calculations that execute at once. A third one keeps the cores busy while others begin and end.
SIDE_BY_SIDE = 3
SETTINGS = {"distribution": {"serialize_jobs": str(SIDE_BY_SIDE)}}
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
        deaths: where it is written which calculations had a death; None if there are none.
    """

    folder: Path
    start: Callable[..., subprocess.Popen[str]]
    deaths: Path | None = None

    def log(self, job_id: int) -> str:
        """The log of a job."""
        out, _ = self.start("jobs", "logs", job_id).communicate()
        return out


def running_side(mode: Mode) -> contextlib.AbstractContextManager[Side]:
    """A cluster for a mode."""
    return _here() if mode is Mode.WHOLE else _in_namespaces(mode)


@contextlib.contextmanager
def _here() -> Iterator[Side]:
    with tempfile.TemporaryDirectory(prefix="qgq") as name:
        folder = Path(name)
        (folder / "home").mkdir()
        with running_cluster(folder / "cluster", folder / "home", SETTINGS) as cluster:

            def start(*args: object) -> subprocess.Popen[str]:
                return subprocess.Popen(
                    cluster.command(*args),
                    env=cluster.environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )

            yield Side(folder, start)


@contextlib.contextmanager
def _in_namespaces(mode: Mode) -> Iterator[Side]:
    preload = f"openquake, {deaths.__name__}" if mode is Mode.CHAOS else "openquake"
    try:
        with running_apart(
            *CORES, preload=preload, more=SETTINGS, stale=(), is_apart=mode is Mode.NOFS
        ) as apart:
            written = apart.machines.directory / deaths.FOLDER
            written.mkdir()

            def start(*args: object) -> subprocess.Popen[str]:
                return apart.machines.start(QUAKEGRID, MASTER, *args)

            yield Side(apart.models, start, written if mode is Mode.CHAOS else None)
    except pytest.skip.Exception as exc:
        raise NoSideError(str(exc)) from exc
