"""The commands that tell how the cluster is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from quakegrid.services.web.pages.health import Examinations


def test_command_runs_nothing_of_the_folder_it_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is called as ours is not taken for it."""
    (tmp_path / "quakegrid" / "cli").mkdir(parents=True)
    for folder in (tmp_path / "quakegrid", tmp_path / "quakegrid" / "cli"):
        (folder / "__init__.py").touch()
    (tmp_path / "quakegrid" / "cli" / "__main__.py").write_text("print('\"hostile\"')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    settings = SimpleNamespace(state_dir=tmp_path / "state")
    examinations = Examinations(settings)  # type: ignore[arg-type]

    told = asyncio.run(examinations._tell(("--version",)))

    assert told is None  # our command prints no JSON here
