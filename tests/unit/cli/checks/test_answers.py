"""How a command line asks the engine: by a driver, or by a process of its own."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.cli.checks import answers


def driver(monkeypatch: pytest.MonkeyPatch, code: int, *events: dict[str, Any]) -> None:
    """A driver that tells these events and ends."""

    def run(_settings: object, argv: list[str], *, mode: str, on_event: Any) -> int:
        assert (argv, mode) == (["ask", "check", "{}"], "run")
        for event in events:
            on_event(event)
        return code

    monkeypatch.setattr(answers.drivers, "run_driver", run)


def ask() -> dict[str, Any]:
    """Ask it."""
    return answers.ask(object(), "check", "{}")  # type: ignore[arg-type]


def test_answer_of_a_driver_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the engine is being loaded, that is said."""
    driver(monkeypatch, 0, {"event": "warming"}, {"event": "answer", "refusal": "bad"})

    assert ask()["refusal"] == "bad"
    assert "the engine is being loaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (1, errors.QuakeGridError),
        (2, errors.UsageError),
        (3, errors.PeerUnreachableError),
        (errors.EXIT_STOPPED, answers.StoppedError),
        (128 + signal.SIGINT, answers.StoppedError),
    ],
)
def test_driver_without_an_answer_is_an_error(
    monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    """In its words, with its exit code."""
    driver(monkeypatch, code, {"event": "error", "message": "no such job"})
    with pytest.raises(kind, match=r"^no such job$"):
        ask()

    driver(monkeypatch, code)
    with pytest.raises(kind, match=f"exit code {code}, without"):
        ask()


@pytest.mark.parametrize(
    ("returncode", "stderr", "words"),
    [(1, "Warning\nit needs more memory", "it needs more memory"), (-9, "", "it said nothing")],
)
def test_own_process_that_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: str, words: str
) -> None:
    """By its last words."""
    done = SimpleNamespace(returncode=returncode, stderr=stderr, stdout="")
    monkeypatch.setattr(answers.subprocess, "run", lambda *_args, **_options: done)

    with pytest.raises(errors.QuakeGridError, match=words):
        answers.ask_own_process({}, 5.0)


def test_own_process_has_a_bound_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is said, with how to raise it."""

    def late(*_args: object, **_options: object) -> None:
        raise subprocess.TimeoutExpired("check", 5.0)

    monkeypatch.setattr(answers.subprocess, "run", late)

    with pytest.raises(errors.QuakeGridError, match="within 5 s; --timeout gives it more"):
        answers.ask_own_process({}, 5.0)


def test_last_line_of_own_process_is_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the engine has printed before."""
    done = SimpleNamespace(returncode=0, stderr="", stdout='noise\n{"refusal": ""}\n')
    monkeypatch.setattr(answers.subprocess, "run", lambda *_args, **_options: done)

    assert answers.ask_own_process({"job_ini": "a"}, 5.0) == {"refusal": ""}


def test_own_process_runs_nothing_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module there may be anybody's, and have any name."""
    (tmp_path / "foreign.py").write_text("print('{}')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(answers, "OWN_PROCESS", "foreign")

    with pytest.raises(errors.QuakeGridError, match="No module named foreign"):
        answers.ask_own_process({}, 60.0)
