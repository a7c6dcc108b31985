"""Progress of operations in the engine's own log lines."""

from __future__ import annotations

import pytest

from quakegrid.jobs import log_progress
from quakegrid.jobs.log_progress import OperationProgress


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("event_based  33% [3 submitted, 0 queued]", OperationProgress("event_based", 1, 3)),
        ("event_based  66% [3 submitted, 0 queued]", OperationProgress("event_based", 2, 3)),
        ("event_based 100% [3 submitted, 0 queued]", OperationProgress("event_based", 3, 3)),
        ("classical   5% [40 submitted, 60 queued]", OperationProgress("classical", 2, 100)),
        ("a b   1% [9 submitted, 0 queued]", OperationProgress("a b", 1, 9)),
        ("classical 999% [3 submitted, 0 queued]", OperationProgress("classical", 3, 3)),
    ],
)
def test_lines_of_progress(message: str, found: OperationProgress) -> None:
    """Counts are exact for up to a hundred tasks."""
    assert log_progress.read(message) == found


@pytest.mark.parametrize(
    "message",
    ["", "33%", "Sent 3 event_based tasks, 184.47 KB", "classical 33% [x submitted, 0 queued]", "a" * 10_000],
)
def test_other_lines(message: str) -> None:
    """They tell no progress."""
    assert log_progress.read(message) is None
