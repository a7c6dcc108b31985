"""`python -m tests` tries an accident again, and a failure not; tests that share fixtures share a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import __main__ as runner
from tests.__main__ import Outcome, Step
from tests.groups import LONG, SHARED, group_of, rank

ROOT = Path(__file__).parents[3]

FLAKY = """
from pathlib import Path

MARK = Path(__file__).with_name("mark")


def test_passes_the_second_time():
    is_second = MARK.exists()
    MARK.touch()
    assert is_second


def test_passes():
    pass
"""
BROKEN = """
import pytest


@pytest.mark.parametrize("value", [1, 2])
def test_fails(value):
    assert value == 2
"""
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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tests of its own, in which the runner works."""
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "build")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    runner.RESULTS.mkdir()
    return tmp_path


def run(project: Path, **files: str) -> Outcome:
    """Run these files as a step with services, and what failed again if that may be."""
    for name, text in files.items():
        (project / f"{name}.py").write_text(text)
    step = Step("services", ("-p", "no:cacheprovider", *(f"{name}.py" for name in files)))
    outcome = runner.run(step, (), [])
    return runner.try_again(outcome, []) if runner.may_try_again(step, outcome) else outcome


def test_accident_is_named_and_is_no_failure(project: Path) -> None:
    """The table says what somebody has to mend."""
    outcome = run(project, test_flaky=FLAKY)

    assert outcome.is_good
    assert outcome.counts == (2, 0, 0)
    assert runner.summary([outcome])[-2:] == [
        "UNSTABLE test_flaky.py::test_passes_the_second_time",
        "",
    ]


def test_failure_that_stays_is_a_failure(project: Path) -> None:
    """Beside an accident, and with its parameter."""
    outcome = run(project, test_flaky=FLAKY, test_broken=BROKEN)

    assert not outcome.is_good
    assert outcome.counts == (4, 1, 0)
    assert outcome.failed == ("test_broken.py::test_fails[1]",)
    assert outcome.unstable == ("test_flaky.py::test_passes_the_second_time",)


@pytest.mark.parametrize(
    ("step", "exit_code", "names"),
    [
        ("unit", 1, ("test_a.py::test_a",)),
        ("services", 2, ("test_a.py::test_a",)),
        ("services", 1, ()),
        ("services", 1, tuple(f"test_a.py::test_{number}" for number in range(4))),
        ("services", 1, ("test_b.py::test_a",)),
    ],
)
def test_what_is_no_accident_is_not_tried_again(
    project: Path, step: str, exit_code: int, names: tuple[str, ...]
) -> None:
    """Tests without services, pytest's own end, no test to name, too many, and a file that is not there."""
    (project / "test_a.py").touch()
    outcome = Outcome(step, exit_code, 0.0, (9, len(names), 0), names)

    assert not runner.may_try_again(Step(step, ()), outcome)


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
