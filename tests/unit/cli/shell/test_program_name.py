"""How hints call the program."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

from quakegrid.cli import options


@pytest.mark.parametrize("is_ours", [True, False])
def test_hints_name_the_script_of_an_installation(
    is_ours: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """People type what is in their path; another program of that name there is not meant."""
    called, script = tmp_path / "venv" / "bin" / "quakegrid", tmp_path / "quakegrid"
    called.parent.mkdir(parents=True)
    called.touch()
    script.write_text(f'#!/bin/sh\nexec {called if is_ours else "/elsewhere/quakegrid"} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(called)])

    with click.Context(click.Command("demo")):
        assert options.program() == ("quakegrid" if is_ours else str(called))
