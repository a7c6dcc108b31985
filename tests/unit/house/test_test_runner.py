"""`python -m tests` tries an accident again, and a failure not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import __main__ as runner
from tests.__main__ import Outcome, Step

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
