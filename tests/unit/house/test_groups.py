"""Tests that share fixtures run in one process of pytest-xdist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import __main__ as runner
from tests.groups import LONG, SHARED, group_of, rank

ROOT = Path(__file__).parents[3]
PARTS = """
import os

import pytest


@pytest.mark.parametrize("number", range(6))
def test_part(number, tmp_path_factory):
    place = tmp_path_factory.getbasetemp().parent / {name!r}
    place.mkdir(exist_ok=True)
    place.joinpath(os.environ["PYTEST_XDIST_WORKER"]).touch()
    assert list(place.iterdir()) == [place / os.environ["PYTEST_XDIST_WORKER"]]
"""


def test_module_stays_in_one_process(tmp_path: Path) -> None:
    """As `python -m tests` runs it, with the pytest and the pytest-xdist that are installed."""
    for name in ("one", "two", "three"):
        (tmp_path / f"test_{name}.py").write_text(PARTS.format(name=name))
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")

    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-n", "2", *runner.GROUPED, "-p", "tests.groups"),
            *("-p", "no:cacheprovider", f"--basetemp={tmp_path / 'temporary'}", tmp_path),
        ],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "18 passed" in done.stdout


@pytest.mark.parametrize("path", [*LONG, *(path for paths in SHARED.values() for path in paths)])
def test_groups_are_there(path: str) -> None:
    """What was moved moves here too."""
    assert (ROOT / path).exists()


def test_modules_that_share_a_session_are_one_group_and_long_ones_come_first() -> None:
    """Any other module is a group of its own."""
    assert group_of("tests/people/test_ends.py::test_a") == group_of("tests/people/test_walls.py::test_b[1]")
    assert (
        group_of("tests/integration/lane/test_lane.py::test_a[x::y]") == "tests/integration/lane/test_lane.py"
    )
    assert rank(f"{LONG[0]}test_bad_input.py::test_a") < rank("tests/engine/test_leases.py::test_b")
    assert rank("tests/engine/test_leases.py::test_b") < rank("tests/integration/lane/test_lane.py::test_a")
