"""Drivers that are to be gone, and agents that did not hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from quakegrid.api.v1 import nodes_pb2
from quakegrid.services.broker.drivers.stops import STOP_AGAIN_S, DriverStops


class Node:
    """A link to an agent, and what it was ordered."""

    def __init__(self) -> None:
        self.host, self.stopped = "n0", list[int]()
        self.persons = set[str]()
        self.orders = self
        self.stops = DriverStops(self._run)

    async def stop_driver(self, pid: int, person: str) -> None:
        """Note the order."""
        self.stopped.append(pid)
        self.persons.add(person)

    def stop(self, pid: int) -> None:
        """Somebody wants a driver to be gone."""
        self.stops.stop([self], pid, "anna")  # type: ignore[list-item]

    def report(self, *pids: int, instance_id: str = "a", is_first: bool = False) -> None:
        """The agent tells which drivers it has."""
        drivers = [nodes_pb2.DriverStatus(pid=pid) for pid in pids]
        status = nodes_pb2.AgentStatus(instance_id=instance_id, drivers=drivers)
        self.stops.report(self, status, is_first=is_first)  # type: ignore[arg-type]

    def wait(self, seconds: int) -> None:
        """Time goes by."""
        for _ in range(seconds):
            self.stops.pass_second({self.host: self}.get)  # type: ignore[arg-type]

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run(coroutine)


def test_driver_is_stopped_again_until_its_agent_reports_it_no_more() -> None:
    """An order may be lost, or have no effect."""
    node = Node()
    node.report(5, 6)

    node.stop(5)
    node.wait(STOP_AGAIN_S - 1)
    once = list(node.stopped)
    node.wait(1)
    twice = list(node.stopped)
    node.report(5, 6, is_first=True)
    thrice = list(node.stopped)
    node.report(6)
    node.wait(10 * STOP_AGAIN_S)

    assert once == [5]
    assert twice == [5, 5]
    assert node.persons == {"anna"}
    assert thrice == [5, 5, 5]
    assert node.stopped == thrice


def test_driver_of_another_process_of_the_agent_is_left_alone() -> None:
    """A process id is used again; an agent ends its drivers with itself."""
    node = Node()
    node.report(5)
    node.stop(5)

    node.report(5, instance_id="b", is_first=True)
    node.wait(10 * STOP_AGAIN_S)

    assert node.stopped == [5]


def test_nothing_is_kept_of_a_node_that_has_left() -> None:
    """Its drivers went with it."""
    node = Node()
    node.report(5)
    node.stop(5)

    node.stops.forget("n0")
    node.wait(10 * STOP_AGAIN_S)
    node.report(5)

    assert node.stopped == [5]
