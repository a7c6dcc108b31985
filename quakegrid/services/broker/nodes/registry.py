"""The nodes of the fleet: has a link to each agent, and turns what agents tell into events of the fleet core.

It has which nodes the configuration names, which joined, which leave, and which process each agent is. The
fleet core decides which cores are used and when a node may go. Runs in the broker's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from quakegrid import errors
from quakegrid.api.v1 import nodes_pb2
from quakegrid.clients import agent
from quakegrid.internal.v1 import orders_pb2
from quakegrid.machine.open_files import FileNeeds
from quakegrid.nodes.fingerprint import CLOCK
from quakegrid.services.broker.drivers.stops import DriverStops
from quakegrid.services.broker.fleet import events as core
from quakegrid.services.broker.fleet_loop import FleetLoop
from quakegrid.services.broker.nodes.instances import Instances
from quakegrid.services.broker.nodes.link import SERVICE_STATES, NodeLink, describe_state
from quakegrid.services.broker.nodes.links import NodeLinks
from quakegrid.services.broker.rpc import peer_input
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.broker")
# A link to each node is kept. A node that joined and does not answer is forgotten after ten minutes.
MAX_NODES = 5000
# A lane may have the workers of all cores, and for a moment, when they connect again, each of them twice.
LANE_FILES_A_CORE = 2
# A node that is up is heard of within a second of a start, or within several on an overloaded machine. To
# wait costs seconds; not to wait costs what its workers run, which may be hours.
KNOWN_S = 10.0


class NodeRegistry:
    """The links by the node's name in the fleet.

    Args:
        settings: of the cluster.
        loop: of the fleet core that the events are for.
        driver_stops: is told which drivers each node has.
        tell_output: called with the output of workers.
        spawn: keeps a task running.
        new_link: makes a link to a node.
    """

    def __init__(
        self,
        settings: Settings,
        loop: FleetLoop,
        driver_stops: DriverStops,
        *,
        tell_output: Callable[[orders_pb2.WorkerOutput], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        new_link: Callable[..., NodeLink] = NodeLink,
    ) -> None:
        self._loop, self._driver_stops, self._tell_output = loop, driver_stops, tell_output
        self._all = NodeLinks(settings, spawn, lambda host, address: new_link(settings, host, address, self))
        self._links, self.configured = self._all.by_host, self._all.configured
        self._instances = Instances()
        self._departures: dict[str, asyncio.Event] = {}
        self._lane_needs = FileNeeds("a lane's connections to the workers", LANE_FILES_A_CORE)
        # Nodes that have not told what they have since this broker's start.
        self._silent = {*self._links, *self._all.joined}
        self._has_heard_all = asyncio.Event()
        # Set while at least one node gives cores.
        self.has_cores = asyncio.Event()

    @property
    def links(self) -> Mapping[str, NodeLink]:
        """All links, by host."""
        return self._links

    @property
    def expected(self) -> list[str]:
        """The nodes of the configuration, and those that joined an earlier broker's fleet."""
        return [*self._links, *self._all.joined]

    def start(self) -> None:
        """Watch the nodes of the configuration, and those that joined an earlier broker's fleet."""
        self._all.start()
        for host, address in list(self._all.joined.items()):
            self.join(host, address)
        if not self._silent:
            self._has_heard_all.set()

    @property
    def are_known(self) -> bool:
        """Whether it is known which workers the nodes had at the start: `wait_until_known` is over."""
        return self._has_heard_all.is_set()

    async def wait_until_known(self) -> None:
        """Wait until all nodes have told what they have; for those that do not answer, not for long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._has_heard_all.wait(), KNOWN_S)
        self._has_heard_all.set()

    def links_to(self, hosts: Iterable[str]) -> list[NodeLink]:
        """The links to these hosts, without those that have left."""
        return [self._links[host] for host in hosts if host in self._links]

    def links_by_name(self, name: str) -> list[NodeLink]:
        """The links to the nodes with this name, either in the fleet or as their agents give it."""
        return [
            self._links[node.host]
            for node in self._loop.fleet.nodes.values()
            if name in (node.name, node.host)
        ]

    # --- joining and leaving

    def host_of(self, instance_id: str) -> str | None:
        """The host of the node with this agent, if the node is up."""
        return self._instances.host_of(instance_id)

    def join(self, host: str, address: str) -> None:
        """Add a node to the fleet. A node that is about to leave stays.

        Raises:
            StateError: there are too many nodes already, or a node of this name is up elsewhere.
        """
        self._all.make_way(host, address)
        if host not in self._links and len(self._links) >= MAX_NODES:
            raise errors.StateError(f"the fleet has {MAX_NODES} nodes, no further one may join")
        self._loop.handle(core.NodeJoined(host))
        self._end_departure(host)
        if host not in self._links:
            log.info("node_joined host=%s address=%s", host, address)
            self._all.open(host, address)

    async def leave(self, host: str) -> bool:
        """Drain a node and forget it; returns False if the node has joined again meanwhile."""
        if host not in self._links:
            return True
        departure = self._departures.setdefault(host, asyncio.Event())
        self._loop.handle(core.NodeLeaving(host))
        await departure.wait()
        return host not in self._links

    def forget(self, host: str) -> None:
        """Close the link to a node that has left."""
        log.info("node_left host=%s", host)
        self._all.close(host)
        self._instances.note(host, "")
        self._driver_stops.forget(host)
        self._end_departure(host)
        self._note_heard(host)

    def part_with(self, host: str, reason: str) -> None:
        """Close the link to a node at once, and give up its workers; nothing happens if there is none."""
        if host in self._links:
            self._links[host].stop()
            self.on_lost(host, reason)
            if host not in self.configured:
                self._loop.handle(core.NodeLeaving(host))

    def let_in(self, host: str) -> None:
        """Watch a node again that the configuration names; nothing happens for any other."""
        if host in self.configured:
            self._all.open(host, self.configured[host])

    def _end_departure(self, host: str) -> None:
        """Tell the calls that wait for the node to leave that it has left, or that it stays."""
        departure = self._departures.pop(host, None)
        if departure:
            departure.set()

    # --- reports of agents

    def on_status(self, host: str, status: nodes_pb2.AgentStatus, is_first: bool) -> None:
        """Take the status of a node.

        Raises:
            PeerError: the report cannot be true.
        """
        peer_input.check_report(status)
        self._note_instance(host, status.instance_id)
        if host not in self._links:
            return  # this agent is already that of another node
        link = self._links[host]
        self._driver_stops.report(link, status, is_first=is_first)
        self._loop.handle(_report_event(host, status, link.clock, is_first=is_first))
        self._note_heard(host)
        self._note_cores()

    def _note_heard(self, host: str) -> None:
        """A node told what it has, is lost, or has left."""
        self._silent.discard(host)
        if not self._silent:
            self._has_heard_all.set()

    def _note_instance(self, host: str, instance_id: str) -> None:
        """Remember the instance id of a node's agent, "" for none.

        A second node with the same agent leaves the fleet.
        """
        hosts = self._instances.note(host, instance_id)
        if len(hosts) <= 1:
            return
        twins = [each for each in self._links if each in hosts]
        for twin in sorted(twins, key=lambda each: each not in self.configured)[1:]:
            log.info("node_left host=%s reason=it is %s", twin, twins[0])
            self._loop.handle(core.NodeLeaving(twin))

    def on_worker_ended(self, host: str, ended: orders_pb2.WorkerEnd) -> None:
        """Take the end of a worker. An agent can only tell of workers on its own node."""
        worker = self._loop.fleet.workers.get(ended.worker_id)
        if worker is not None and worker.host == host:
            self._loop.handle(peer_input.cut_end(ended))

    def on_output(self, output: orders_pb2.WorkerOutput) -> None:
        """Pass the output of a worker on."""
        self._tell_output(output)

    def on_lost(self, host: str, reason: str) -> None:
        """Take the loss of a node."""
        if host not in self._links:
            return  # the node has left
        log.warning("node_lost host=%s reason=%s", host, reason)
        self._note_instance(host, "")
        self._loop.handle(core.NodeLost(host, reason))
        self._note_heard(host)
        self._note_cores()

    def _note_cores(self) -> None:
        self._lane_needs.look(self._loop.fleet.core_count)
        if self._loop.fleet.core_count:
            self.has_cores.set()
        else:
            self.has_cores.clear()  # `wait_for_nodes` waits until a node gives cores


def _report_event(
    host: str, status: nodes_pb2.AgentStatus, clock: str, *, is_first: bool
) -> core.NodeReported:
    """An agent's status as an event of the fleet core; `clock` says how far the clocks differ."""
    return core.NodeReported(
        host,
        status.node,
        status.core_count,
        describe_state(status),
        present=frozenset(worker.worker_id for worker in status.workers) if is_first else None,
        workers=tuple((worker.worker_id, worker.session_id) for worker in status.workers),
        fingerprint={**status.fingerprint, CLOCK: clock},
        older_fingerprints=tuple({**each.fingerprint, CLOCK: clock} for each in status.older_templates),
        cores_per_worker=status.cores_per_worker or 1,
        is_short_of_memory=status.is_short_of_memory,
        is_ready=agent.template_state(status).is_ready,
        is_serving=status.service_state not in SERVICE_STATES,
    )
