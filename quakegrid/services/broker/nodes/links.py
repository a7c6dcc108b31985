"""The links to the nodes of the fleet, opened and closed, and the file that remembers those that joined.

Decides nothing about cores. Runs in the broker's event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from quakegrid import errors
from quakegrid.services.broker.nodes import joined
from quakegrid.services.broker.nodes.link import NodeLink
from quakegrid.settings.config import Settings


class NodeLinks:
    """The links by the node's name in the fleet.

    Args:
        settings: of the cluster.
        spawn: keeps a task running.
        new_link: makes the link to a host at an address.
    """

    def __init__(
        self,
        settings: Settings,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        new_link: Callable[[str, str], NodeLink],
    ) -> None:
        self._state_dir, self._spawn, self._new_link = settings.state_dir, spawn, new_link
        self.configured = {
            item.host: f"{item.host}:{settings.agent_port}" for item in settings.agent_host_cores
        }
        self._by_host = {host: new_link(host, address) for host, address in self.configured.items()}
        # Those that joined, as an earlier broker knew them, too.
        self._joined = joined.read(self._state_dir)

    @property
    def by_host(self) -> Mapping[str, NodeLink]:
        """All links, by host; the same object at all times."""
        return self._by_host

    @property
    def joined(self) -> Mapping[str, str]:
        """Hosts that joined, with the addresses of their agents."""
        return self._joined

    def start(self) -> None:
        """Watch the nodes of the configuration."""
        for link in self._by_host.values():
            self._spawn(link.run())

    def open(self, host: str, address: str) -> None:
        """Watch a node, and remember it if the configuration does not name it."""
        link = self._by_host[host] = self._new_link(host, address)
        self._spawn(link.run())
        if host not in self.configured and self._joined.get(host) != address:
            self._joined[host] = address
            joined.write(self._state_dir, self._joined)

    def close(self, host: str) -> None:
        """Watch a node no longer, and forget it."""
        self._by_host.pop(host).stop()
        if self._joined.pop(host, None) is not None:
            joined.write(self._state_dir, self._joined)

    def make_way(self, host: str, address: str) -> None:
        """Close the link to a node that asks to join from elsewhere, as it is not reached where it was.

        Raises:
            StateError: it is still there, so that another one asks in its name.
        """
        link = self._by_host.get(host)
        if link is None or link.address == address or host in self.configured:
            return
        if link.is_reached:
            raise errors.StateError(
                f"the node {host} is up at {link.address}, so that the machine at {address} cannot join in "
                f"its name; if that has a copy of its certificate, revoke it: `quakegrid node revoke {host}`"
            )
        self.close(host)
