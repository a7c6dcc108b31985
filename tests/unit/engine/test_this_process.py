"""What a process is to the engine, which its seams ask."""

from __future__ import annotations

from typing import Any

import pytest

from quakegrid.engine import this_process


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is nothing yet."""
    monkeypatch.setattr(this_process._Own, "settings", None)
    monkeypatch.setattr(this_process._Own, "is_warm", False)
    monkeypatch.setattr(this_process._Own, "process", None)


def test_template_runs_no_calculation() -> None:
    """An attribute of the engine that is used there says so, in words."""
    with pytest.raises(RuntimeError, match="the template runs no calculation"):
        this_process.current()


def test_process_is_a_driver_or_a_worker_for_good() -> None:
    """A second role would leave the first one's connections behind."""
    role: Any = object()

    this_process.become(role)

    assert this_process.current() is role
    with pytest.raises(AssertionError, match="once"):
        this_process.become(role)


def test_children_find_the_settings_of_the_template() -> None:
    """A worker of a cold template finds none, and reads them itself."""
    settings: Any = object()
    assert not this_process.is_prepared()

    this_process.prepare(settings)

    assert this_process.is_prepared()
    assert this_process.settings() is settings
