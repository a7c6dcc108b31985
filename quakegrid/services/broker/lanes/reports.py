"""What lanes and sessions tell each other through the broker: openings, places, counts, overdue tasks.

Runs in the broker's event loop. Passes on what lanes report as events of the fleet core, to drivers and to
agents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from quakegrid.internal.v1 import sessions_pb2
from quakegrid.services.broker.drivers.session import DriverSession
from quakegrid.services.broker.fleet import events as core
from quakegrid.services.broker.fleet_loop import FleetLoop
from quakegrid.services.broker.lanes import door_keys
from quakegrid.services.broker.nodes.registry import NodeRegistry
from quakegrid.services.broker.status.totals import SessionTotals
from quakegrid.settings import lane_secrets
from quakegrid.settings.config import Settings
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2

# Workers named in one packet: 65 kB at most.
IDS_AT_ONCE = 500


class LaneReports:
    """Stands between the lanes and the sessions of one broker.

    Args:
        settings: of the cluster.
        loop: of the fleet core.
        sessions: that are open, by id.
        nodes: of the fleet.
        totals: of sessions that have ended.
        spawn: keeps a task running.
    """

    def __init__(
        self,
        settings: Settings,
        loop: FleetLoop,
        sessions: Mapping[int, DriverSession],
        nodes: NodeRegistry,
        totals: SessionTotals,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._settings, self._loop, self._sessions, self._nodes = settings, loop, sessions, nodes
        self._totals, self._spawn = totals, spawn
        secret = lane_secrets.of_broker(settings.state_dir)
        self._token_key, self._lane_keys = lane_keys.token_key(secret), door_keys.of_broker(secret)

    def opening(self, session_id: int) -> list[lane_pb2.ControlMessage]:
        """What a lane is told of a session that comes to it, for the first time or again."""
        request = self._sessions[session_id].request
        workers = self._loop.fleet.workers_of(session_id=session_id)
        opening = lane_pb2.OpenLaneSession(
            session_id=session_id,
            max_attempts=self._settings.max_attempts,
            job_ids=request.job_ids,
            user_name=request.user_name,
            task_timeout_s=self._settings.task_timeout_s,
        )
        # A new lane has not heard of earlier drains.
        drains = [
            lane_pb2.DrainWorker(session_id=session_id, worker_id=worker.worker_id)
            for worker in workers
            if worker.is_draining
        ]
        return [
            lane_pb2.ControlMessage(open=opening),
            *(lane_pb2.ControlMessage(drain=drain) for drain in drains),
            *(self.workers(session_id) if self._nodes.are_known else []),
        ]

    def workers(self, session_id: int) -> list[lane_pb2.ControlMessage]:
        """What a lane is told of a session when all nodes have told what they have."""
        workers = self._loop.fleet.workers_of(session_id=session_id)
        worker_ids = [worker.worker_id for worker in workers if worker.is_started]
        parts = [
            lane_pb2.SessionWorkers(session_id=session_id, worker_ids=worker_ids[start : start + IDS_AT_ONCE])
            for start in range(0, max(1, len(worker_ids)), IDS_AT_ONCE)
        ]
        parts[-1].is_last = True
        return [lane_pb2.ControlMessage(workers=part) for part in parts]

    def on_placed(self, session_id: int, endpoint: str) -> None:
        """Tell a driver where its lane is; its workers may start."""
        session = self._sessions[session_id]
        admitted = sessions_pb2.SessionAdmitted(
            session_id=session_id,
            lane_endpoint=endpoint,
            core_count=self._loop.fleet.core_count,
            session_token=lane_keys.session_token(self._token_key, session_id),
            lane_keys=self._lane_keys,
        )
        session.tell(sessions_pb2.OpenSessionResponse(admitted=admitted))
        session.placed.set()

    def on_counts(self, counts: lane_pb2.LaneCounts) -> None:
        """Take the counters of a session, an open one or one that has ended."""
        session = self._sessions.get(counts.session_id)
        if session is None:
            self._totals.on_last_counts(counts)
            return
        ended_before = session.counts.done_count + session.counts.failed_count
        if counts.done_count + counts.failed_count > ended_before:
            self._loop.handle(core.ProgressMade(session.session_id))
        session.note_counts(counts)
        session.done_rate.add(time.monotonic(), counts.done_count)
        if session.task_count is not None:
            busy = frozenset(session.busy_worker_ids)
            self._loop.handle(core.TasksCounted(session.session_id, session.task_count, busy))

    def on_overdue(self, overdue: lane_pb2.TaskOverdue) -> None:
        """Have a worker killed whose task has run for too long."""
        worker = self._loop.fleet.workers.get(overdue.worker_id)
        if worker is None or worker.host not in self._nodes.links:
            return  # it has ended
        reason = f"its task ran longer than [broker] task_timeout = {self._settings.task_timeout_s:g} s"
        orders = self._nodes.links[worker.host].orders
        self._spawn(orders.kill_worker(overdue.session_id, overdue.worker_id, reason))
