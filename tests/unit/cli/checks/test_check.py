"""The command `check`: what it says of the engine's answer, and where it asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from quakegrid import errors
from quakegrid.cli import __main__ as command_line
from quakegrid.cli.checks import answers, check, estimates
from quakegrid.cli.checks.estimates import Estimates

FACTS = {"sites": 1000, "sources": 50, "ruptures": 9, "levels": 20, "ground_motion_models": 4}
ANSWER: dict[str, Any] = {
    "refusal": "",
    "hints": ["truncation_levl has no effect; is truncation_level meant?"],
    "warnings": [
        "The parameter 'truncation_levl' is unknown, ignoring",
        "Sent 1 classical tasks, 0 B",
        "odd",
    ],
    "description": "Europe",
    "mode": "classical",
    "facts": FACTS,
    "read_s": 1.5,
}


@pytest.fixture
def job_ini(tmp_path: Path) -> Path:
    """A file; the engine is not asked."""
    path = tmp_path / "job.ini"
    path.touch()
    return path


def asked(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], *args: str) -> tuple[Result, list[Any]]:
    """Run the command without a cluster; what the engine's process was asked."""
    seen: list[Any] = []

    def ask(wanted: Any, timeout_s: float) -> dict[str, Any]:
        seen.append((wanted, timeout_s))
        return answer

    monkeypatch.setattr(check, "_cluster_here", lambda: None)
    monkeypatch.setattr(answers, "ask_own_process", ask)
    monkeypatch.setattr("quakegrid.nodes.engine_version.installed_version", lambda: "3.26.2")
    monkeypatch.setattr(check.os, "cpu_count", lambda: 8)
    result = CliRunner().invoke(command_line.cli, ["check", *args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result, seen


def test_valid_calculation_is_told_with_what_it_needs(job_ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And with names that have no effect; routine of the engine is left out."""
    done, seen = asked(monkeypatch, ANSWER, str(job_ini), "-p", "truncation_level=3", "--timeout", "9")

    assert done.exit_code == 0
    assert "tasks of its longest stage  about 16" in done.stdout
    assert "is truncation_level meant?" in done.stdout
    assert "warning  odd" in done.stdout
    assert "Sent 1" not in done.stdout
    assert "unknown, ignoring" not in done.stdout
    wanted = {"job_ini": str(job_ini), "params": {"truncation_level": "3"}, "parent_id": None}
    assert seen == [(wanted, 9.0)]


def test_refusal_ends_with_exit_code_2(job_ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the engine's words; nothing is estimated."""
    answer = ANSWER | {"refusal": "Missing truncation_level", "facts": {}}

    done, _ = asked(monkeypatch, answer, str(job_ini))
    as_json, _ = asked(monkeypatch, answer, str(job_ini), "--json")

    assert done.exit_code == errors.EXIT_USAGE
    assert "not valid: Missing truncation_level" in done.stdout
    (found,) = json.loads(as_json.stdout)
    assert (found["is_valid"], found["estimates"]["task_count"]) == (False, 0)


def test_nothing_that_a_terminal_obeys_is_printed(job_ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job file, which may be somebody else's, has description and parameters."""
    texts = {"description": "a\x1b[2J", "warnings": ["b\x1b[2J"], "refusal": "c\x1b[2J"}

    done, _ = asked(monkeypatch, ANSWER | texts, str(job_ini))

    assert [each in done.stdout for each in (r"a\x1b[2J", r"b\x1b[2J", r"c\x1b[2J")] == [True] * 3
    assert "\x1b" not in done.stdout


def test_several_files_are_all_checked(job_ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command for hazard and risk."""
    done, seen = asked(monkeypatch, ANSWER, str(job_ini), str(job_ini), "--output", "quiet")

    assert done.stdout == f"{job_ini}\n{job_ini}\n"
    assert len(seen) == 2


def test_parent_needs_a_cluster(job_ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has the calculation."""
    with pytest.raises(errors.PeerUnreachableError, match="none runs here"):
        asked(monkeypatch, ANSWER, str(job_ini), "--hc", "3")


def test_estimate_is_bounded_by_sources_and_cores() -> None:
    """Neither without sources, nor rates without a hazard that has them."""
    assert estimates.estimate("classical", FACTS, 100) == Estimates(50, 320_000, 80_000)
    assert estimates.estimate("event_based", FACTS, 4) == Estimates(8, 0, 0)
    assert estimates.estimate("scenario", {"sites": 7}, 4) == Estimates()


def test_what_may_go_wrong_is_told() -> None:
    """Too large for this machine, too many branches, nothing to compute."""
    needs = Estimates(1, 600, 1)

    assert "more memory than this machine has free" in next(iter(estimates.doubts(needs, {}, 599)))
    assert "more than half" in next(iter(estimates.doubts(needs, {}, 1000)))
    assert list(estimates.doubts(needs, {}, 1200)) == []
    facts = {"realizations": 20_000, "sources": 1, "ruptures": 0}
    branches, ruptures = estimates.doubts(Estimates(), facts, 1)
    assert "number_of_logic_tree_samples" in branches
    assert ruptures == "its sources have no rupture"
