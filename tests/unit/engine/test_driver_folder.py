"""What the command line says of a current folder that no driver can enter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from quakegrid import errors
from quakegrid.clients import drivers


def test_folder_that_the_user_may_not_enter_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the user, the folder and what to do; no agent is asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    settings: Any = None

    with pytest.raises(errors.UsageError, match=f"may not enter the current folder {tmp_path}; change to"):
        drivers.run_driver(settings, ["engine"])


def test_folder_that_is_gone_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In words."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    settings: Any = None

    with pytest.raises(errors.UsageError, match="the current folder is gone"):
        drivers.run_driver(settings, ["engine"])
