"""What the fleet core decides, done: drivers are told, lanes are told, agents are ordered.

Runs in the broker's event loop. Decides nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import assert_never

from quakegrid.internal.v1 import sessions_pb2
from quakegrid.nodes import worker_end_messages
from quakegrid.services.broker.drivers.ends import SessionEnds
from quakegrid.services.broker.drivers.session import DriverSession
from quakegrid.services.broker.fleet import events as core
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.services.broker.lanes.pool import LanePool
from quakegrid.services.broker.nodes.registry import NodeRegistry
from quakegrid.services.broker.worker_orders import WorkerOrders
from quakegrid.wire.v1 import lane_pb2

log = logging.getLogger("quakegrid.broker")


class FleetActions:
    """Does the actions of one fleet core.

    Args:
        fleet: the core; it is only read here.
        sessions: that are open, by id.
        lanes: of the broker.
        nodes: of the fleet.
        ends: ends sessions.
        orders: orders agents to start and stop workers.
    """

    def __init__(
        self,
        fleet: Fleet,
        sessions: Mapping[int, DriverSession],
        lanes: LanePool,
        nodes: NodeRegistry,
        ends: SessionEnds,
        orders: WorkerOrders,
    ) -> None:
        self._fleet, self._sessions = fleet, sessions
        self._lanes, self._nodes, self._ends, self._orders = lanes, nodes, ends, orders

    def perform(self, action: core.Action) -> None:
        """Do one action."""
        match action:
            case core.Admit() | core.Queue() | core.LeaveOut() | core.FailSession():
                self._turn_to_driver(action)
            case core.DrainWorker() | core.LoseWorker():
                self._tell_lane(action)
            case core.StartWorkers():
                self._orders.start(action)
            case core.StopWorkers():
                self._orders.stop(action)
            case core.ForgetNode(host):
                self._nodes.forget(host)
            case _ as unreachable:
                assert_never(unreachable)

    def _turn_to_driver(self, action: core.DriverAction) -> None:
        match action:
            case core.Admit(session_id):
                self._sessions[session_id].is_admitted = True
                self._lanes.place(session_id)  # its driver is told when it has a lane
            case core.Queue(session_id, ahead, reason):
                queued = sessions_pb2.SessionQueued(ahead_job_ids=ahead, reason=reason)
                self._sessions[session_id].tell(sessions_pb2.OpenSessionResponse(queued=queued))
            case core.LeaveOut(host, session_id, differences):
                title = self._fleet.nodes[host].title
                log.warning("node_left_out session=%d node=%s how=%s", session_id, title, differences)
                left_out = sessions_pb2.NodeLeftOut(node=title, differences=differences)
                self._sessions[session_id].tell(sessions_pb2.OpenSessionResponse(node_left_out=left_out))
            case core.FailSession(session_id, reason):
                self._ends.fail(session_id, reason)
            case _ as unreachable:
                assert_never(unreachable)

    def _tell_lane(self, action: core.LaneAction) -> None:
        match action:
            case core.DrainWorker(session_id, worker_id):
                drain = lane_pb2.DrainWorker(session_id=session_id, worker_id=worker_id)
                self._lanes.send(session_id, lane_pb2.ControlMessage(drain=drain))
            case core.LoseWorker(end):
                if not end.is_clean:
                    words = "worker_lost session=%d worker=%s reason=%s"
                    log.warning(words, end.session_id, end.worker_id, end.words)
                message = worker_end_messages.encode(end)
                self._lanes.send(end.session_id, lane_pb2.ControlMessage(worker_lost=message))
            case _ as unreachable:
                assert_never(unreachable)
