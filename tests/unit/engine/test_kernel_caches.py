"""Kernels that a process of another user than the template's compiles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import kernel
from quakegrid.engine import this_process, kernel_caches
this_process._Own.template_uid = -1 if sys.argv[2] == "other" else os.getuid()
kernel_caches.use_own_folder()
kernel.add(1, 2)
stats = kernel.add.stats
print(json.dumps([sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]))
"""
KERNEL = """
import numba
@numba.njit(cache=True)
def add(one, other):
    return one + other
"""


def run(tmp_path: Path, who: str) -> list[int]:
    """Let a process add; how often it found a kernel, and how often it did not."""
    environ = os.environ | {"HOME": str(tmp_path / "home"), "NUMBA_CACHE_DIR": str(tmp_path / "shared")}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), who]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    found: list[int] = json.loads(done.stdout)
    return found


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a module that has a kernel."""
    (tmp_path / "kernel.py").write_text(KERNEL)
    (tmp_path / "home").mkdir()
    return tmp_path


def files(folder: Path) -> list[str]:
    """The files of a folder and below."""
    return sorted(path.name for path in folder.rglob("*.nb?"))


def test_person_reads_the_shared_kernels_and_writes_none(place: Path) -> None:
    """What the agent's user has compiled is used; the shared folder stays as it was."""
    assert run(place, "own") == [0, 1]
    before = files(place / "shared")

    assert run(place, "other") == [1, 0]

    assert files(place / "shared") == before
    assert files(place / "home") == []


def test_person_keeps_kernels_in_a_folder_of_its_own(place: Path) -> None:
    """A kernel that nobody has compiled is compiled once for a person."""
    assert run(place, "other") == [0, 1]
    assert run(place, "other") == [1, 0]

    assert files(place / "shared") == []
    assert len(files(place / "home")) == 2


def test_without_a_folder_a_person_compiles_each_time(place: Path) -> None:
    """No calculation fails because a kernel cannot be kept."""
    (place / "home").rmdir()
    (place / "home").write_text("no folder")

    assert run(place, "other") == [0, 1]
    assert run(place, "other") == [0, 1]
