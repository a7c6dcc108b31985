"""What agents tell the broker: their nodes' states and workers, as events of the fleet core.

Decides nothing. Runs in the broker's event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from quakegrid.api.v1 import nodes_pb2
from quakegrid.clients import agent
from quakegrid.internal.v1 import orders_pb2
from quakegrid.nodes.fingerprint import CLOCK
from quakegrid.settings.config import Settings
from services.broker.drivers.stops import DriverStops
from services.broker.fleet import events as core
from services.broker.fleet.core import Fleet
from services.broker.nodes.link import SERVICE_STATES, NodeLink, describe_state
from services.broker.nodes.registry import Members
from services.broker.rpc import peer_input

log = logging.getLogger("quakegrid.broker")


class NodeReports:
    """The reports of all nodes.

    Args:
        settings: of the cluster.
        fleet: its core.
        driver_stops: is told which drivers nodes have.
        on_output: called with what workers print.
        spawn: keeps a task running.
        handle: hands an event to the fleet core, and does what it decides.
        new_link: makes a link to a node.
    """

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        driver_stops: DriverStops,
        *,
        on_output: Callable[[orders_pb2.WorkerOutput], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        handle: Callable[[core.Event], None],
        new_link: Callable[..., NodeLink] = NodeLink,
    ) -> None:
        self._settings, self._fleet, self._driver_stops = settings, fleet, driver_stops
        self._link_of = new_link
        self._on_output, self._handle = on_output, handle
        self.members = Members(settings, self._new_link, spawn, handle)
        # Whether any node gives cores.
        self.has_cores = asyncio.Event()

    def _new_link(self, host: str, address: str) -> NodeLink:
        return self._link_of(
            self._settings,
            host,
            address,
            on_status=self._on_status,
            on_exit=partial(self._on_exit, host),
            on_output=self._on_output,
            on_lost=self._on_lost,
        )

    def _on_status(self, host: str, status: nodes_pb2.AgentStatus, is_first: bool) -> None:
        """A node's agent said what it has, at first or again after we had lost it.

        Raises:
            PeerError: it cannot be.
        """
        peer_input.check_report(status)
        self.members.note_instance(host, status.instance_id)
        if host not in self.members.links:
            return  # the agent is another node's
        reported = tuple((worker.worker_id, worker.session_id) for worker in status.workers)
        link = self.members.links[host]
        self._driver_stops.report(link, status, is_first=is_first)
        present = frozenset(worker.worker_id for worker in status.workers) if is_first else None
        self._handle(
            core.NodeReported(
                host,
                status.node,
                status.core_count,
                describe_state(status),
                present,
                reported,
                {**status.fingerprint, CLOCK: link.clock},
                tuple({**each.fingerprint, CLOCK: link.clock} for each in status.older_templates),
                cores_per_worker=status.cores_per_worker or 1,
                is_short_of_memory=status.is_short_of_memory,
                is_ready=agent.template_state(status).is_ready,
                is_serving=status.service_state not in SERVICE_STATES,
            )
        )
        self._note_cores()

    def _on_exit(self, host: str, exited: orders_pb2.WorkerExited) -> None:
        """A worker ended; an agent can tell of those on its own node only."""
        worker = self._fleet.workers.get(exited.worker_id)
        if worker is None or worker.host != host:
            return
        peak = f", peak memory {exited.peak_memory_bytes / 2**20:.0f} MiB" if exited.peak_memory_bytes else ""
        reason, last_output = peer_input.cut_exit(exited)
        self._handle(
            core.WorkerExited(
                exited.worker_id, reason + peak, exited.is_clean, last_output, exited.is_blameless
            )
        )

    def _on_lost(self, host: str, reason: str) -> None:
        """A node was given up."""
        if host not in self.members.links:
            return  # it has left
        log.warning("node_lost host=%s reason=%s", host, reason)
        self.members.note_instance(host, "")
        self._handle(core.NodeLost(host, reason))
        self._note_cores()

    def _note_cores(self) -> None:
        if self._fleet.core_count:
            self.has_cores.set()
        else:
            self.has_cores.clear()  # whoever comes waits until somebody gives cores
