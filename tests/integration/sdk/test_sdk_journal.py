"""Calls that were answered before return at once, on a cluster of real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quakegrid import LocalCluster, errors
from quakegrid.journals import named
from quakegrid.machine import process_stats
from tests.support.calls import kept_calls, sdk_calls

COUNT = 60
HALF = COUNT // 2
END_S = 120.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A cluster of two workers, without the engine."""
    with LocalCluster(cores=2) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def own_journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals are in the state directory of the person, which is of the test."""
    monkeypatch.setenv("QUAKEGRID_STATE_DIR", str(tmp_path / "home" / "state"))


class Runs:
    """The calls that ran, as they have written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "runs"

    def _all(self) -> list[tuple[int, int]]:
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        words = [line.split() for line in lines]
        return [(int(each[0]), int(each[1])) for each in words if len(each) == 2]

    def take(self) -> list[int]:
        """The numbers of those since the last time."""
        found = [number for number, _pid in self._all()]
        self._path.unlink(missing_ok=True)
        return sorted(found)

    def has(self, number: int) -> bool:
        """Whether a call has begun."""
        return number in [each for each, _pid in self._all()]

    def are_over(self) -> bool:
        """Whether the workers that ran them have ended."""
        return not any(process_stats.fields(pid) for _number, pid in self._all())


def kept_count(tmp_path: Path) -> int:
    """Answers in the journal."""
    return sum(each.answer_count for each in named.all_of(tmp_path / "home" / "state"))


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something."""
    end_s = time.monotonic() + END_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def start(cluster: LocalCluster, folder: Path, addend: int = 0) -> subprocess.Popen[str]:
    """Start the program."""
    state_dir = cluster.settings.state_dir
    command = [
        sys.executable,
        "-m",
        kept_calls.__name__,
        str(state_dir),
        str(folder),
        str(COUNT),
        str(addend),
    ]
    environ = os.environ | {"OQ_CONFIG_FILE": str(state_dir / "openquake.cfg"), "PYTHONHASHSEED": "random"}
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> list[int]:
    """What the program found."""
    output, _ = process.communicate(timeout=END_S)
    assert process.returncode == 0
    return [int(word) for word in output.strip("[]\n").split(",")]


def test_calls_of_a_killed_program_do_not_run_again(cluster: LocalCluster, tmp_path: Path) -> None:
    """But those that had no answer do, and all if the function is another, as by a global that it uses."""
    runs = Runs(tmp_path)
    killed = start(cluster, tmp_path)
    wait_until(lambda: runs.has(HALF) and kept_count(tmp_path) >= 10)
    killed.kill()
    killed.communicate()
    wait_until(runs.are_over)
    begun, kept = runs.take(), kept_count(tmp_path)
    assert HALF in begun
    assert 10 <= kept < COUNT

    (tmp_path / "go").touch()
    for addend, run_count in ((0, COUNT - kept), (5, COUNT), (0, 0)):
        found = finish(start(cluster, tmp_path, addend))
        assert found == [number + addend for number in range(COUNT)]
        assert len(runs.take()) == run_count


def test_every_way_to_call_is_answered(cluster: LocalCluster, tmp_path: Path) -> None:
    """`map` in chunks, weighted calls, and asyncio; progress counts what was answered."""
    (tmp_path / "go").touch()
    runs, told = Runs(tmp_path), list[tuple[int, int]]()
    folders, lasts = [str(tmp_path)] * 8, [-1] * 8
    options: dict[str, Any] = {"journal": "ways", "on_progress": lambda *counts: told.append(counts)}

    async def ask() -> int:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(executor, kept_calls.add, str(tmp_path), 3, -1)

    for run_count in (8, 0):
        with cluster.executor(**options) as executor:
            assert list(executor.map(kept_calls.add, folders, range(8), lasts, chunksize=3)) == list(range(8))
            assert executor.submit_weighted(2.0, kept_calls.add, str(tmp_path), 7, -1).result() == 7
            assert asyncio.run(ask()) == 3
            assert executor.pending_count == 0
        assert len(runs.take()) == run_count
        assert told[-1] == (10, 10)
        told.clear()


def test_large_results_are_kept_until_they_are_forgotten(cluster: LocalCluster) -> None:
    """Whole, and writable; the executor can forget them, and refuses to without a journal."""
    array = np.arange(100_000.0)
    with cluster.executor(journal="large") as executor:
        first = executor.submit(sdk_calls.double_array, array).result()
    with cluster.executor(journal="large") as executor:
        second = executor.submit(sdk_calls.double_array, array).result()
        assert executor._sender.unsent.taken_count == 0
        second += 1.0
        np.testing.assert_array_equal(second, first + 1.0)
        executor.forget()
        np.testing.assert_array_equal(executor.submit(sdk_calls.double_array, array).result(), first)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(sdk_calls.double_array, array)
    with cluster.executor() as executor, pytest.raises(errors.StateError, match="has no journal"):
        executor.forget()
