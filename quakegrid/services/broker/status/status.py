"""The broker's status as messages: nodes, sessions, lanes and totals.

Reads the fleet, the sessions and the lanes, and changes none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quakegrid import __version__
from quakegrid.api.v1 import fleet_pb2, nodes_pb2
from quakegrid.services.broker.drivers.session import DriverSession
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.services.broker.lanes.pool import LanePool
from quakegrid.services.broker.nodes.link import NodeLink
from quakegrid.services.broker.status.totals import SessionTotals

# All who watch share the statuses of this time: with 64,000 cores each takes some 30 ms of the broker's loop.
RECENT_S = 0.25
MOST_VERSION_CHARS = 64


class StatusWriter:
    """Writes statuses of a broker.

    Args:
        fleet: its nodes and workers.
        sessions: its open sessions.
        lanes: its lanes.
        totals: of its sessions that have ended.
        links: to its nodes, by host.
    """

    def __init__(
        self,
        fleet: Fleet,
        sessions: Mapping[int, DriverSession],
        lanes: LanePool,
        totals: SessionTotals,
        links: Mapping[str, NodeLink],
    ) -> None:
        self._fleet, self._links = fleet, links
        self._sessions, self._lanes, self._totals = sessions, lanes, totals
        self._last: fleet_pb2.GetStatusResponse | None = None
        self._last_s = 0.0

    def status(self, now_s: float) -> fleet_pb2.GetStatusResponse:
        """The whole status, as it is now. Do not change it: others get it from `recent`."""
        workers = self._fleet.workers
        self._last_s = now_s
        self._last = fleet_pb2.GetStatusResponse(
            nodes=self.nodes(),
            sessions=[
                self._session(session, workers.count_of_session(session.session_id), now_s)
                for session in self._sessions.values()
            ],
            lanes=self._lanes.statuses(),
            version=__version__,
            totals=self._totals.with_open(self._sessions.values()),
            serialize_jobs=self._fleet.serialize_jobs,
            max_jobs_per_user=self._fleet.limits.max_jobs,
            max_cores_per_user=self._fleet.limits.max_cores,
        )
        return self._last

    def recent(self, now_s: float) -> fleet_pb2.GetStatusResponse:
        """Everything as it is now, or was a moment ago when somebody else asked."""
        if self._last is None or now_s - self._last_s >= RECENT_S:
            return self.status(now_s)
        return self._last

    def nodes(self) -> list[fleet_pb2.NodeStatus]:
        """The nodes of the configuration."""
        workers = self._fleet.workers
        sessions = self._fleet.sessions
        busy_counts = workers.busy_counts({each: sessions[each].busy_worker_ids for each in sessions})
        left_out, counts = self._left_out(), workers.counts_by_host()
        return [
            fleet_pb2.NodeStatus(
                host=node.host,
                node=node.name,
                is_up=node.is_up,
                core_count=node.core_count,
                worker_count=workers.count_of_host(node.host),
                running_count=busy_counts.get(node.host, 0),
                state=node.state,
                left_out=left_out.get(node.host, ()),
                shares=[
                    fleet_pb2.NodeShare(session_id=session_id, worker_count=count)
                    for session_id, count in sorted(counts.get(node.host, {}).items())
                ],
                **self._place(node.host),
            )
            for node in self._fleet.nodes.values()
        ]

    def _place(self, host: str) -> dict[str, Any]:
        """What is known of a node by its link; nothing of a node that has just left."""
        link = self._links.get(host)
        if link is None:
            return {}
        place = {"proof_kind": link.proof_kind, "address": link.address, "sample": link.sample}
        if link.status is None:
            return place
        return place | {
            "version": link.status.version[:MOST_VERSION_CHARS],
            "engine_version": link.status.engine_version[:MOST_VERSION_CHARS],
            "all_core_count": link.status.all_core_count,
            "is_short_of_memory": link.status.is_short_of_memory,
            "is_stopped": link.status.service_state == nodes_pb2.SERVICE_STATE_STOPPED,
        }

    def _left_out(self) -> dict[str, list[fleet_pb2.LeftOut]]:
        """The sessions that get no worker on a node, by host."""
        found: dict[str, list[fleet_pb2.LeftOut]] = {}
        for session in self._fleet.sessions.values():
            for host, differences in session.left_out.items():
                left_out = fleet_pb2.LeftOut(
                    session_id=session.session_id, job_ids=session.job_ids, differences=differences
                )
                found.setdefault(host, []).append(left_out)
        return found

    def _session(self, session: DriverSession, worker_count: int, now_s: float) -> fleet_pb2.SessionStatus:
        request, counts = session.request, session.counts
        lane = self._lanes.lane_of(session.session_id)
        # The fleet core ends a session first.
        waiting = None if session.is_admitted else self._fleet.sessions.get(session.session_id)
        return fleet_pb2.SessionStatus(
            session_id=session.session_id,
            job_ids=request.job_ids,
            user_name=request.user_name,
            state="executing" if session.is_admitted else "submitted",
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
            busy_worker_count=len(session.busy_worker_ids),
            argument_bytes=counts.argument_bytes,
            result_bytes=counts.result_bytes,
            core_count=self._fleet.workers.used[session.session_id],
            ahead_job_ids=waiting.ahead if waiting else (),
            wait_reason=waiting.wait_reason if waiting else "",
            unused_s=self._unused_s(session.session_id),
            stages=session.stages,
        )

    def _unused_s(self, session_id: int) -> int:
        """How long a session executes without having submitted a task; 0 if it has."""
        placed = self._fleet.sessions.get(session_id)
        has_none = placed is not None and placed.task_count is None and not placed.is_local
        return placed.unused_s if placed and has_none else 0
