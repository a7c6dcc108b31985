"""What lanes say to their broker, as the broker hears it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quakegrid import testing
from quakegrid.services.broker.guard import BrokerFailedError, StateGuard
from quakegrid.services.broker.lanes.pool import LanePool, Listener
from quakegrid.settings import config
from quakegrid.wire.v1 import lane_pb2


def test_words_of_a_lane_reach_whom_they_are_for(tmp_path: Path) -> None:
    """Tasks that run for too long, sessions that cannot go on; anything else is a fault of ours."""
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    heard: list[Any] = []
    guard = StateGuard()
    pool = LanePool(
        settings,
        guard,
        heard.append,
        Listener(
            opening=lambda _session_id: [],
            on_counts=heard.append,
            on_overdue=heard.append,
            on_placed=lambda session_id, endpoint: heard.append((session_id, endpoint)),
            on_failed=lambda session_id, reason: heard.append((session_id, reason)),
            on_lost=lambda port, reason: heard.append((port, reason)),
        ),
    )
    overdue = lane_pb2.TaskOverdue(session_id=5, worker_id="w1")

    pool._on_message(lane_pb2.ControlMessage(overdue=overdue))
    pool._on_message(lane_pb2.ControlMessage(broken=lane_pb2.SessionBroken(session_id=5, reason="it broke")))

    assert heard == [overdue, (5, "it broke")]
    with pytest.raises(BrokerFailedError) as failure:
        pool._on_message(lane_pb2.ControlMessage(ready=lane_pb2.LaneReady()))
    assert "ready" in str(failure.value.__cause__)
    assert guard.failed.is_set()
