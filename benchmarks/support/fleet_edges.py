"""The broker's own modules around a fleet core: what a status and a lane's counts cost."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from benchmarks.support.fleet_crowd import FleetCrowd
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.services.broker.drivers.session import DriverSession, Rate
from quakegrid.services.broker.fleet_loop import FleetLoop
from quakegrid.services.broker.guard import StateGuard
from quakegrid.services.broker.lanes.pool import LanePool
from quakegrid.services.broker.lanes.reports import LaneReports
from quakegrid.services.broker.nodes.registry import NodeRegistry
from quakegrid.services.broker.status.status import StatusWriter
from quakegrid.services.broker.status.totals import SessionTotals
from quakegrid.settings.config import load_settings
from quakegrid.wire.v1 import lane_pb2

ROUND_COUNT = 50


class NoLanes:
    """Lanes are no part of what is measured."""

    def statuses(self) -> list[Any]:
        """None of them."""
        return []

    def lane_of(self, _session_id: int) -> None:
        """No lane."""


def driver_sessions(crowd: FleetCrowd) -> Mapping[int, DriverSession]:
    """Sessions of drivers whose workers are all busy."""
    found = {}
    for session_id in crowd.core.sessions:
        request = sessions_pb2.OpenSessionRequest(job_ids=[session_id], user_name="user", host="n0", pid=1)
        found[session_id] = DriverSession(session_id, request, Rate(0.0))
        found[session_id].counts = counts_of(crowd, session_id)
    return found


def counts_of(crowd: FleetCrowd, session_id: int) -> lane_pb2.LaneCounts:
    """What a lane tells of a session whose workers are all busy."""
    names = [worker.worker_id for worker in crowd.core.workers.staying(session_id)]
    return lane_pb2.LaneCounts(
        session_id=session_id, queued_count=100_000, running_count=len(names), busy_worker_ids=names
    )


def status_writer(crowd: FleetCrowd) -> StatusWriter:
    """What writes the statuses of this fleet."""
    return StatusWriter(crowd.core, driver_sessions(crowd), cast("LanePool", NoLanes()), SessionTotals(), {})


def statuses_s(crowd: FleetCrowd, count: int) -> list[float]:
    """CPU seconds of some statuses, encoded."""
    writer = status_writer(crowd)
    found = []
    for _ in range(count):
        start_s = time.process_time()
        writer.status(0.0).SerializeToString()
        found.append(time.process_time() - start_s)
    return found


async def counts_s(crowd: FleetCrowd) -> float:
    """CPU seconds of one message of counts with all busy workers of a session, its decoding included."""
    settings = load_settings()
    loop = FleetLoop(crowd.core, StateGuard(), lambda _action: None)

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        work.close()

    reports = LaneReports(
        settings, loop, driver_sessions(crowd), cast("NodeRegistry", None), SessionTotals(), spawn
    )
    packet = counts_of(crowd, 1).SerializeToString()
    start_s = time.process_time()
    for _ in range(ROUND_COUNT):
        reports.on_counts(lane_pb2.LaneCounts.FromString(packet))
    return (time.process_time() - start_s) / ROUND_COUNT
