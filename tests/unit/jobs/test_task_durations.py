"""How long tasks of a kind are expected to take."""

from __future__ import annotations

import pytest

from quakegrid.jobs import task_durations
from quakegrid.jobs.task_durations import TaskDurations


def test_estimate_rises_at_once_and_falls_slowly() -> None:
    """A task that is longer than expected counts more than one that is shorter."""
    durations = TaskDurations()
    found = []

    for duration_s in (2.0, 10.0, 0.0, 0.0):
        durations.learn("op", duration_s)
        found.append(durations.known_s["op"])

    assert found == pytest.approx([2.0, 10.0, 7.0, 4.9])


def test_kinds_beyond_the_limit_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are known are still learnt."""
    monkeypatch.setattr(task_durations, "MAX_KINDS", 2)
    durations = TaskDurations()

    for kind in ("a", "b", "c"):
        durations.learn(kind, 1.0)
    durations.learn("a", 3.0)

    assert durations.known_s == {"a": 3.0, "b": 1.0}
