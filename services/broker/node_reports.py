"""What agents tell the broker: their nodes' states and workers, as events of the fleet core.

Knows which workers are nobody's any more, and ends them; decides nothing else. Runs in the broker's event
loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from quakegrid import agents
from quakegrid.api.v1 import agent_pb2
from quakegrid.config import Settings
from quakegrid.fingerprint import CLOCK
from services.broker import fleet_events as core
from services.broker.fleet import Fleet
from services.broker.members import Members
from services.broker.nodes import SERVICE_STATES, NodeLink, describe_state
from services.broker.sessions import Session

log = logging.getLogger("quakegrid.broker")
# Workers of sessions that we do not know are stopped so long after our start: drivers come back by then.
RESUME_GRACE_S = 10.0


class NodeReports:
    """The reports of all nodes.

    Args:
        settings: of the cluster.
        fleet: its core.
        sessions: that are open.
        on_output: called with what workers print.
        spawn: keeps a task running.
        handle: hands an event to the fleet core, and does what it decides.
    """

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        sessions: Mapping[int, Session],
        on_output: Callable[[agent_pb2.WorkerOutput], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        handle: Callable[[core.Event], None],
    ) -> None:
        self._settings, self._fleet, self._sessions = settings, fleet, sessions
        self._on_output, self._spawn, self._handle = on_output, spawn, handle
        self.members = Members(settings, self._new_link, spawn, handle)
        # Workers of each node by session, as its agent last told.
        self._reported: dict[str, tuple[tuple[str, int], ...]] = {}
        self._start_s = time.monotonic()
        # Whether any node gives cores.
        self.has_cores = asyncio.Event()

    def workers_of(self, session_id: int) -> tuple[tuple[str, str], ...]:
        """Workers of a session and their hosts, as agents last told."""
        return tuple(
            (worker_id, host)
            for host, reported in self._reported.items()
            for worker_id, owner_id in reported
            if owner_id == session_id
        )

    def forget(self, host: str) -> None:
        """Let go of a node that has left."""
        self._reported.pop(host, None)

    def _new_link(self, host: str, address: str) -> NodeLink:
        return NodeLink(
            self._settings,
            host,
            address,
            on_status=self._on_status,
            on_exit=self._on_exit,
            on_output=self._on_output,
            on_lost=self._on_lost,
        )

    def _on_status(self, host: str, status: agent_pb2.AgentStatus, is_first: bool) -> None:
        """A node's agent said what it has, at first or again after we had lost it."""
        self.members.note_instance(host, status.instance_id)
        if host not in self.members.links:
            return  # the agent is another node's
        ours = {worker.worker_id for worker in self._fleet.workers.values()}
        strangers = {worker.session_id for worker in status.workers if worker.worker_id not in ours}
        for session_id in strangers - self._sessions.keys():
            self._spawn(self._stop_strangers(host, session_id))
        reported = tuple((worker.worker_id, worker.session_id) for worker in status.workers)
        self._reported[host] = reported
        clock = self.members.links[host].clock
        present = frozenset(worker.worker_id for worker in status.workers) if is_first else None
        self._handle(
            core.NodeReported(
                host,
                status.node,
                status.core_count,
                describe_state(status),
                present,
                reported,
                {**status.fingerprint, CLOCK: clock},
                tuple({**each.fingerprint, CLOCK: clock} for each in status.older_templates),
                cores_per_worker=status.cores_per_worker or 1,
                is_short_of_memory=status.is_short_of_memory,
                is_ready=agents.template_state(status).is_ready,
                is_serving=status.service_state not in SERVICE_STATES,
            )
        )
        self._note_cores()

    def _on_exit(self, exited: agent_pb2.WorkerExited) -> None:
        """A worker ended."""
        peak = f", peak memory {exited.peak_memory_bytes / 2**20:.0f} MiB" if exited.peak_memory_bytes else ""
        last_output = tuple(exited.last_output)
        self._handle(
            core.WorkerExited(
                exited.worker_id, exited.reason + peak, exited.is_clean, last_output, exited.is_blameless
            )
        )

    def _on_lost(self, host: str, reason: str) -> None:
        """A node was given up."""
        log.warning("node_lost host=%s reason=%s", host, reason)
        self.members.note_instance(host, "")
        self._handle(core.NodeLost(host, reason))
        self._note_cores()

    def _note_cores(self) -> None:
        if self._fleet.core_count:
            self.has_cores.set()
        else:
            self.has_cores.clear()  # whoever comes waits until somebody gives cores

    async def _stop_strangers(self, host: str, session_id: int) -> None:
        """Stop workers of a session that is not ours, unless its driver comes back to us."""
        await asyncio.sleep(self._start_s + RESUME_GRACE_S - time.monotonic())
        if session_id not in self._sessions and host in self.members.links:
            await self.members.links[host].stop_workers(session_id, is_forced=True)
