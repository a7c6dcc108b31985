"""What the broker tells of itself: nodes, sessions, lanes and totals as messages.

Reads the fleet, the sessions and the lanes; changes none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from quakegrid import __version__
from quakegrid.api.v1 import fleet_pb2
from quakegrid.wire.v1 import lane_pb2
from services.broker.drivers.session import DriverSession
from services.broker.fleet.core import Fleet
from services.broker.lanes.pool import LanePool

# Sessions that ended and whose lanes have not told their last counts; a lane that died never does.
MAX_ENDING = 1000


class StatusWriter:
    """Writes statuses of a broker, and remembers what sessions that ended did.

    Args:
        fleet: its nodes and workers.
        sessions: its open sessions.
        lanes: its lanes.
    """

    def __init__(self, fleet: Fleet, sessions: Mapping[int, DriverSession], lanes: LanePool) -> None:
        self._fleet, self._sessions, self._lanes = fleet, sessions, lanes
        self._ended = fleet_pb2.TaskTotals()
        self._last_counts: dict[int, lane_pb2.LaneCounts] = {}  # as added to the totals

    def on_session_ended(self, session: DriverSession) -> None:
        """Keep the totals of a session that is about to be forgotten; its lane will tell its last counts."""
        self._ended.session_count += 1
        _add(self._ended, session.counts)
        if len(self._last_counts) >= MAX_ENDING:
            del self._last_counts[next(iter(self._last_counts))]
        self._last_counts[session.session_id] = session.counts

    def on_last_counts(self, counts: lane_pb2.LaneCounts) -> None:
        """What a lane counted of a session that has ended."""
        before = self._last_counts.pop(counts.session_id, None)
        if before is not None:
            _add(self._ended, counts)
            _add(self._ended, before, -1)

    def status(self, now_s: float) -> fleet_pb2.GetStatusResponse:
        """Everything, as it is now."""
        totals = fleet_pb2.TaskTotals()
        totals.CopyFrom(self._ended)
        for session in self._sessions.values():
            totals.session_count += 1
            _add(totals, session.counts)
        worker_counts = Counter(worker.session_id for worker in self._fleet.workers.values())
        return fleet_pb2.GetStatusResponse(
            nodes=self.nodes(),
            sessions=[
                self._session(session, worker_counts[session.session_id], now_s)
                for session in self._sessions.values()
            ],
            lanes=self._lanes.statuses(),
            version=__version__,
            totals=totals,
        )

    def nodes(self) -> list[fleet_pb2.NodeStatus]:
        """The nodes of the configuration."""
        busy = {name for session in self._sessions.values() for name in session.counts.busy_worker_ids}
        workers = self._fleet.workers.values()
        worker_counts = Counter(worker.host for worker in workers)
        busy_counts = Counter(worker.host for worker in workers if worker.worker_id in busy)
        return [
            fleet_pb2.NodeStatus(
                host=node.host,
                node=node.name,
                is_up=node.is_up,
                core_count=node.core_count,
                worker_count=worker_counts[node.host],
                running_count=busy_counts[node.host],
                state=node.state,
                left_out=self._left_out(node.host),
            )
            for node in self._fleet.nodes.values()
        ]

    def _left_out(self, host: str) -> list[fleet_pb2.LeftOut]:
        """The sessions that get no worker on a node."""
        return [
            fleet_pb2.LeftOut(
                session_id=session.session_id, job_ids=session.job_ids, differences=session.left_out[host]
            )
            for session in self._fleet.sessions.values()
            if host in session.left_out
        ]

    def _session(self, session: DriverSession, worker_count: int, now_s: float) -> fleet_pb2.SessionStatus:
        request, counts = session.request, session.counts
        lane = self._lanes.lane_of(session.session_id)
        return fleet_pb2.SessionStatus(
            session_id=session.session_id,
            job_ids=request.job_ids,
            user_name=request.user_name,
            state="executing" if session.is_admitted else "queued",
            host=request.host,
            pid=request.pid,
            lane_port=lane.port if lane else 0,
            worker_count=worker_count,
            queued_count=counts.queued_count,
            running_count=counts.running_count,
            done_count=counts.done_count,
            requeued_count=counts.requeued_count,
            failed_count=counts.failed_count,
            done_rate_hz=session.done_rate.hz(now_s, counts.done_count),
            weight=session.weight,
            busy_worker_count=len(counts.busy_worker_ids),
            argument_bytes=counts.argument_bytes,
            result_bytes=counts.result_bytes,
        )


def _add(totals: fleet_pb2.TaskTotals, counts: lane_pb2.LaneCounts, sign: int = 1) -> None:
    totals.done_count += sign * counts.done_count
    totals.requeued_count += sign * counts.requeued_count
    totals.failed_count += sign * counts.failed_count
    totals.argument_bytes += sign * counts.argument_bytes
    totals.result_bytes += sign * counts.result_bytes
