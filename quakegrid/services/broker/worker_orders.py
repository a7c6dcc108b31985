"""Orders to start and stop the workers of sessions, and what becomes of them as events of the fleet core.

Runs in the broker's event loop. The fleet core decides which workers; what sessions need comes from their
drivers, and where the workers connect to from the lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from quakegrid.services.broker.drivers.session import DriverSession
from quakegrid.services.broker.fleet import events as core
from quakegrid.services.broker.fleet_loop import FleetLoop
from quakegrid.services.broker.lanes.pool import LanePool
from quakegrid.services.broker.nodes.orders import WorkerNeeds
from quakegrid.services.broker.nodes.registry import NodeRegistry


class WorkerOrders:
    """Orders the agents of one fleet.

    Args:
        loop: of the fleet core.
        sessions: that are open, by id.
        lanes: of the broker.
        nodes: of the fleet.
        spawn: keeps a task running.
    """

    def __init__(
        self,
        loop: FleetLoop,
        sessions: Mapping[int, DriverSession],
        lanes: LanePool,
        nodes: NodeRegistry,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._loop, self._sessions, self._lanes, self._nodes = loop, sessions, lanes, nodes
        self._spawn = spawn

    def start(self, action: core.StartWorkers) -> None:
        """Have a node start workers when their session has a lane."""
        self._spawn(self._start(action))

    def stop(self, action: core.StopWorkers) -> None:
        """Have a node stop workers of a session."""
        orders = self._nodes.links[action.host].orders
        self._spawn(
            orders.stop_workers(action.session_id, is_forced=action.is_forced, worker_ids=action.worker_ids)
        )

    async def _start(self, action: core.StartWorkers) -> None:
        session = self._sessions.get(action.session_id)
        if session:
            await session.placed.wait()
        # Of a node that was lost meanwhile none are left.
        worker_ids = tuple(each for each in action.worker_ids if each in self._loop.fleet.workers)
        started = await self._order(session, action, worker_ids) if session and worker_ids else ()
        if started is None:
            self._loop.handle(core.WorkersUnsure(worker_ids))
            # Whatever connection there is now: its first report may have come before.
            if action.host in self._nodes.links:
                await self._nodes.links[action.host].orders.renew()
            return
        self._loop.handle(core.WorkersStarted(started))
        refused = tuple(worker_id for worker_id in worker_ids if worker_id not in started)
        if refused:
            self._loop.handle(core.WorkersRefused(refused))
        has_ended = action.session_id not in self._sessions
        if started and has_ended and action.host in self._nodes.links:
            orders = self._nodes.links[action.host].orders
            await orders.stop_workers(action.session_id, is_forced=True)

    async def _order(
        self, session: DriverSession, action: core.StartWorkers, worker_ids: tuple[str, ...]
    ) -> tuple[str, ...] | None:
        """Ask a node for workers; returns those that started, or None if nobody knows."""
        endpoint = self._lanes.endpoint_of(session.session_id)  # one about to start again counts, too
        if not endpoint:
            return ()
        session.hosts.add(action.host)
        request = session.request
        needs = WorkerNeeds(endpoint, request.worker_setup, request.fingerprint, session.principal)
        orders = self._nodes.links[action.host].orders
        started = await orders.start_workers(session.session_id, worker_ids, needs, width=action.width)
        return None if started is None else tuple(started)
