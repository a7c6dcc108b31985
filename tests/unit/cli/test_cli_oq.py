"""The command `oq`: every argument reaches the engine as it stands."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from quakegrid import errors
from quakegrid.cli import __main__ as command_line
from quakegrid.cli import options
from quakegrid.clients import drivers


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["engine", "--run", "job.ini", "--hc", "-1"],
        ["--help"],
        ["engine", "--help", "--", "-v"],
        ["--version", "--state-dir", "x", "--unknown=1", "-abc"],
    ],
)
def test_arguments_are_untouched(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Options, dashes and order are the engine's affair, and so is the exit code."""
    calls: list[tuple[str, list[str]]] = []

    def run_driver(_settings: object, argv: Sequence[str], *, mode: str) -> int:
        calls.append((mode, list(argv)))
        return 7

    monkeypatch.setattr(drivers, "run_driver", run_driver)
    monkeypatch.setattr(options, "cluster_settings", lambda: None)
    monkeypatch.setattr(sys, "argv", ["quakegrid", "oq", *args])

    code = command_line.run_command_line()

    assert calls == [("oq", args)]
    assert code == 7


@pytest.mark.parametrize(("args", "code"), [(["--help"], 0), (["engine"], 3)])
def test_help_works_without_a_cluster(
    args: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a cluster `oq --help` is our own; all else says what is missing."""

    def cluster_settings() -> None:
        raise errors.PeerUnreachableError("no cluster; `quakegrid up`")

    monkeypatch.setattr(options, "cluster_settings", cluster_settings)
    monkeypatch.setattr(sys, "argv", ["quakegrid", "oq", *args])

    assert command_line.run_command_line() == code
    captured = capsys.readouterr()
    assert "quakegrid oq" in captured.out if code == 0 else "quakegrid up" in captured.err
