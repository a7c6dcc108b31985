"""The broker's status as messages: nodes, sessions, lanes and totals.

Reads the fleet, the sessions and the lanes, and changes none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from quakegrid import __version__
from quakegrid.api.v1 import fleet_pb2
from services.broker.drivers.session import DriverSession
from services.broker.fleet.core import Fleet
from services.broker.lanes.pool import LanePool
from services.broker.status.totals import SessionTotals


class StatusWriter:
    """Writes statuses of a broker.

    Args:
        fleet: its nodes and workers.
        sessions: its open sessions.
        lanes: its lanes.
        totals: of its sessions that have ended.
    """

    def __init__(
        self, fleet: Fleet, sessions: Mapping[int, DriverSession], lanes: LanePool, totals: SessionTotals
    ) -> None:
        self._fleet, self._sessions, self._lanes, self._totals = fleet, sessions, lanes, totals

    def status(self, now_s: float) -> fleet_pb2.GetStatusResponse:
        """The whole status, as it is now."""
        worker_counts = Counter(worker.session_id for worker in self._fleet.workers.values())
        return fleet_pb2.GetStatusResponse(
            nodes=self.nodes(),
            sessions=[
                self._session(session, worker_counts[session.session_id], now_s)
                for session in self._sessions.values()
            ],
            lanes=self._lanes.statuses(),
            version=__version__,
            totals=self._totals.with_open(self._sessions.values()),
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
