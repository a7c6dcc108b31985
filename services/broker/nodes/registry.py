"""The nodes of the fleet as links to their agents: those of `host_cores`, and those that joined.

Knows who came, who is about to leave and who waits for that; the fleet core decides when a node may go.
Runs in the broker's event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from quakegrid import errors
from quakegrid.settings.config import Settings
from services.broker.fleet import events as core
from services.broker.nodes.link import NodeLink

log = logging.getLogger("quakegrid.broker")
# A link to each is kept, and those that joined and do not answer are forgotten after ten minutes.
MAX_NODES = 5000


class Members:
    """Links by the node's name in the fleet.

    Args:
        settings: of the cluster.
        new_link: makes a link to a node, by its name and its agent's address.
        spawn: keeps a task running.
        handle: hands an event to the fleet core.
    """

    def __init__(
        self,
        settings: Settings,
        new_link: Callable[[str, str], NodeLink],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        handle: Callable[[core.Event], None],
    ) -> None:
        self.configured = {
            item.host: f"{item.host}:{settings.agent_port}" for item in settings.agent_host_cores
        }
        self.links = {host: new_link(host, address) for host, address in self.configured.items()}
        self._new_link, self._spawn, self._handle = new_link, spawn, handle
        self._instances: dict[str, str] = {}
        self._departures: dict[str, asyncio.Event] = {}

    def start(self) -> None:
        """Watch the nodes of the configuration."""
        for link in self.links.values():
            self._spawn(link.run())

    def note_instance(self, host: str, instance_id: str) -> None:
        """Remember which process serves a node, empty if none does; one that serves two leaves as joined."""
        self._instances[host] = instance_id
        twins = [each for each in self.links if instance_id and self._instances.get(each) == instance_id]
        for twin in sorted(twins, key=lambda each: each not in self.configured)[1:]:
            log.info("node_left host=%s reason=it is %s", twin, twins[0])
            self._handle(core.NodeLeaving(twin))

    def host_of(self, instance_id: str) -> str | None:
        """The node whose agent this process is, if we know it and it is up."""
        hosts = (host for host, each in self._instances.items() if each == instance_id)
        return next(hosts, None) if instance_id else None

    def join(self, host: str, address: str) -> None:
        """Take a node in, if it is not there, and keep it if it is about to leave.

        Raises:
            StateError: there are too many nodes already.
        """
        if host not in self.links and len(self.links) >= MAX_NODES:
            raise errors.StateError(f"the fleet has {MAX_NODES} nodes, no further one may join")
        self._handle(core.NodeJoined(host))
        self._end_departure(host)
        if host not in self.links:
            log.info("node_joined host=%s address=%s", host, address)
            self.links[host] = self._new_link(host, address)
            self._spawn(self.links[host].run())

    async def leave(self, host: str) -> bool:
        """Drain a node and forget it; False if it joined again meanwhile."""
        if host not in self.links:
            return True
        departure = self._departures.setdefault(host, asyncio.Event())
        self._handle(core.NodeLeaving(host))
        await departure.wait()
        return host not in self.links

    def forget(self, host: str) -> None:
        """Let go of a node that has left."""
        log.info("node_left host=%s", host)
        self.links.pop(host).stop()
        self._instances.pop(host, None)
        self._end_departure(host)

    def _end_departure(self, host: str) -> None:
        """Tell who waits for the node to leave that it has, or will not."""
        departure = self._departures.pop(host, None)
        if departure:
            departure.set()
