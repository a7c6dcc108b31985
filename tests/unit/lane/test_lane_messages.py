"""What comes over a lane, as the scheduler's events."""

from __future__ import annotations

import math

import pytest

from quakegrid.services.lane import codec
from quakegrid.services.lane.tasks.events import Peer
from quakegrid.wire.v1 import lane_pb2


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weight_that_cannot_be_one_is_one(weight: float) -> None:
    """A peer's nonsense does not reach the queue's order."""
    task = lane_pb2.SubmitTask(session_id=1, task_id=2, weight=weight)

    assert codec.submission(task, Peer(b"driver"), None).weight == 1.0


@pytest.mark.parametrize(
    ("told_s", "taken_s"), [(math.nan, 0.0), (-1.0, 0.0), (0.5, 0.5), (math.inf, math.inf)]
)
def test_expectation_that_cannot_be_one_is_none(told_s: float, taken_s: float) -> None:
    """Infinity is one: alone on its worker."""
    task = lane_pb2.SubmitTask(session_id=1, task_id=2, expected_s=told_s)

    assert codec.submission(task, Peer(b"driver"), None).expected_s == taken_s
