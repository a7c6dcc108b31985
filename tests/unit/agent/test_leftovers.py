"""What workers and drivers leave in folders, on disks that may not answer."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from quakegrid.machine import temporary_folders
from quakegrid.services.agent.node.leftovers import FolderLeftovers


def test_file_server_that_does_not_answer_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread that waits for it has the lock."""
    has_begun, answers = threading.Event(), threading.Event()

    def remove(_state_dir: Path, _pid: int) -> None:
        has_begun.set()
        answers.wait()

    monkeypatch.setattr(temporary_folders, "remove", remove)
    monkeypatch.setattr(temporary_folders, "pids", lambda _state_dir: [12])
    folders = FolderLeftovers(tmp_path)
    folders.remove_of(11)
    assert has_begun.wait(60)

    folders.clear_within(0.0)
    answers.set()

    assert "folders_left reason=not removed within 0 s" in caplog.text
