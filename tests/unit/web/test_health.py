"""What the command line tells the page of the cluster's health."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from quakegrid.services.web.pages import health
from quakegrid.services.web.pages.health import COMMANDS, Examinations
from quakegrid.settings import config


def test_commands_run_nothing_of_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module there may be anybody's, and have any name."""
    (tmp_path / "foreign.py").write_text("print('{}')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(health, "PROGRAM", "foreign")

    settings = config.load_settings(tmp_path, {"QUAKEGRID_ONLY_CONFIG": "", "HOME": str(tmp_path)})

    found = asyncio.run(Examinations(settings).newest())

    assert {name: found[name] for name in COMMANDS} == dict.fromkeys(COMMANDS)
