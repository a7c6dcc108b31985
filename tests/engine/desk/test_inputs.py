"""The files that names alone find, beside those that the engine lists for its own calculations."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.inputs import closure
from quakegrid.inputs.parcel import DiskFiles

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(900)]
SCRIPT = Path(__file__).with_name("plain_inputs.py")
# Of the engine 3.26: what it can list without an earlier calculation, at least.
LISTED_COUNT = 400


def _packed(root: Path) -> Iterator[str]:
    """Files that archives hold, which the engine unpacks beside them, one by the name of the archive."""
    for path in root.rglob("*.zip"):
        yield str(path.with_suffix(".xml"))
        with zipfile.ZipFile(path) as archive:
            yield from (str(path.parent / name) for name in archive.namelist())


def test_names_find_what_the_engine_lists(tmp_path: Path) -> None:
    """Each file but those that the engine unpacks while it lists: their archives are sent whole."""
    root = testing.copy_engine_case(".", tmp_path / "cases")
    mine = {str(path): set(closure.find([str(path)], DiskFiles())) for path in sorted(root.rglob("job*.ini"))}
    before = {str(path) for path in root.rglob("*")} - set(_packed(root))

    done = subprocess.run(
        [sys.executable, SCRIPT, root],
        env=testing.isolated_environ(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=True,
    )

    theirs = json.loads(done.stdout)
    assert len(theirs) >= LISTED_COUNT
    missed = {
        job_ini: sorted((set(paths) & before) - mine[job_ini])
        for job_ini, paths in theirs.items()
        if (set(paths) & before) - mine[job_ini]
    }
    assert missed == {}
    too_many = sum(len(mine[job_ini] - {job_ini} - set(paths)) for job_ini, paths in theirs.items())
    assert too_many <= len(theirs) // 10
