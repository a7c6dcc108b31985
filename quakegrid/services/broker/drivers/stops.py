"""Stops drivers: an order is repeated until the agent does not report the driver any more.

Drivers are known by node and process id. An agent stops only drivers that it started itself, for the person
of the session. Runs in the
broker's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Never

from quakegrid.api.v1 import nodes_pb2
from quakegrid.services.broker.nodes.link import NodeLink

STOP_AGAIN_S = 5
# How many orders are remembered; beyond that the oldest are dropped.
MAX_STOPS = 1000


@dataclass(slots=True)
class _Stop:
    """An order to stop. An agent ends its drivers when it ends: its next process has other drivers."""

    instance_id: str
    told_s: int
    person: str


class DriverStops:
    """The drivers that were ordered to stop, by node and process id.

    Args:
        spawn: keeps a task running.
    """

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        self._spawn = spawn
        self._now_s = 0
        self._stops: dict[tuple[str, int], _Stop] = {}
        self._reported: dict[
            str, tuple[str, frozenset[int]]
        ] = {}  # the agent's instance id and the drivers of each node

    def stop(self, links: Iterable[NodeLink], pid: int, person: str) -> None:
        """Stop a driver on its node, or on each node that could be its node.

        Args:
            links: to these nodes.
            pid: of the driver, as it tells itself.
            person: whose driver it is: agents stop no other person's. Empty for that of a service.
        """
        for link in links:
            instance_id, _ = self._reported.get(link.host, ("", frozenset()))
            self._stops[link.host, pid] = _Stop(instance_id, self._now_s, person)
            self._spawn(link.orders.stop_driver(pid, person))
        while len(self._stops) > MAX_STOPS:
            del self._stops[next(iter(self._stops))]

    def report(self, link: NodeLink, status: nodes_pb2.AgentStatus, *, is_first: bool) -> None:
        """Note which drivers a node has. Orders may have been lost before its agent was reached."""
        pids = frozenset(driver.pid for driver in status.drivers)
        self._reported[link.host] = status.instance_id, pids
        for (host, pid), stop in list(self._stops.items()):
            if host != link.host:
                continue
            if pid not in pids or stop.instance_id not in ("", status.instance_id):
                del self._stops[host, pid]
            elif is_first:
                self._order(link, pid, stop)

    def forget(self, host: str) -> None:
        """Forget a node that has left."""
        self._reported.pop(host, None)
        for key in [key for key in self._stops if key[0] == host]:
            del self._stops[key]

    async def count_seconds(self, link_of: Callable[[str], NodeLink | None]) -> Never:
        """Repeat the orders each second; cancel to stop."""
        while True:
            await asyncio.sleep(1.0)
            self.pass_second(link_of)

    def pass_second(self, link_of: Callable[[str], NodeLink | None]) -> None:
        """Repeat the orders for drivers that their agents still report; called each second."""
        self._now_s += 1
        for (host, pid), stop in self._stops.items():
            link = link_of(host)
            _, pids = self._reported.get(host, ("", frozenset()))
            if link and pid in pids and stop.told_s + STOP_AGAIN_S <= self._now_s:
                self._order(link, pid, stop)

    def _order(self, link: NodeLink, pid: int, stop: _Stop) -> None:
        stop.told_s = self._now_s
        self._spawn(link.orders.stop_driver(pid, stop.person))
