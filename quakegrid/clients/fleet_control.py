"""The calls of people for all nodes of a fleet: serve, stop, restart, and wait for that.

Uses the broker's service, which passes each call on to the agents of the nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.clients.broker import BrokerClient, FleetStatus, NodeStatus
from quakegrid.settings.config import Settings

# The broker waits up to 30 s for agents that hang.
CALL_TIMEOUT_S = 45.0
WAIT_S = 120.0
POLL_S = 0.1
HEAR_TIMEOUT_S = 5.0
# State of a node whose agent was told to stop.
STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """The answer of one node to an order; `is_reached` is False if the node did not get the order."""

    host: str
    node: str
    is_reached: bool
    was_serving: bool


class FleetControl:
    """Asks the broker; each method may raise PeerUnreachableError.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._broker = BrokerClient(settings)
        self._connection = self._broker.connection
        self._stub = fleet_pb2_grpc.FleetStub(self._connection.channel)

    def close(self) -> None:
        """Close the connection."""
        self._broker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def status(self) -> FleetStatus:
        """Nodes, sessions and lanes."""
        return self._broker.status()

    def start(self) -> list[NodeAnswer]:
        """Let every node serve, as many cores as before it was stopped."""
        request = fleet_pb2.StartNodesRequest()
        response = self._connection.call(self._stub.StartNodes, request, CALL_TIMEOUT_S)
        return self._heard(response.nodes, is_stopped=False)

    def stop(self, *, is_forced: bool) -> list[NodeAnswer]:
        """Stop all nodes: no workers start, and those that run end after their task, or at once if forced."""
        request = fleet_pb2.StopNodesRequest(force=is_forced)
        response = self._connection.call(self._stub.StopNodes, request, CALL_TIMEOUT_S)
        return self._heard(response.nodes, is_stopped=True)

    def restart(self, *, is_forced: bool) -> list[NodeAnswer]:
        """Let every node end its workers, start a new template and serve."""
        request = fleet_pb2.RestartNodesRequest(force=is_forced)
        response = self._connection.call(self._stub.RestartNodes, request, CALL_TIMEOUT_S)
        return self._heard(response.nodes, is_stopped=False)

    def forget(self, name: str) -> str:
        """Let the broker forget a node that joined and is gone; returns the broker's name of the node.

        Args:
            name: of the node, as the broker or the node itself calls it.
        Raises:
            NotFoundError: the fleet has no such node.
            StateError: the node answers, or is in `host_cores`.
        """
        nodes = self.status().nodes
        named = [node.host for node in nodes if node.host == name] or [
            node.host for node in nodes if node.node == name
        ]
        if len(named) != 1:
            known = ", ".join(node.host for node in nodes) or "none"
            how = "no node" if not named else "more than one node named"
            raise errors.NotFoundError(f"the fleet has {how} {name}; its nodes are {known}")
        request = fleet_pb2.ForgetNodeRequest(host=named[0])
        # The workers of a node that does not answer are given up after `node_timeout`.
        self._connection.call_while(self._stub.ForgetNode, request, lambda: None)
        return named[0]

    def wait_until_drained(self, answers: Iterable[NodeAnswer], on_count: Callable[[int], None]) -> None:
        """Wait until nodes that were told to stop have no workers, or serve again.

        Args:
            answers: of the nodes; those that were not reached are not waited for.
            on_count: called with the workers that are left, whenever that changes.
        """
        hosts = {answer.host for answer in answers if answer.is_reached}
        told = 0
        while True:
            nodes = [node for node in self.status().nodes if node.host in hosts]
            count = sum(node.worker_count for node in nodes if not node.is_up)
            if not count:
                return
            if count != told:
                on_count(count)
                told = count
            time.sleep(POLL_S)

    def wait_until_up(self, timeout_s: float = WAIT_S, *, any_node: bool = False) -> tuple[NodeStatus, ...]:
        """Wait until all nodes, or any one, can start workers; returns all.

        Raises:
            PeerUnreachableError: nodes are missing when the time is over; the message names them, and why.
        """
        end_s = time.monotonic() + timeout_s
        while True:
            nodes = self.status().nodes
            missing = [node for node in nodes if not node.is_up]
            if nodes and (not missing or (any_node and len(missing) < len(nodes))):
                return nodes
            if time.monotonic() >= end_s:
                reasons = "; ".join(f"{node.host}: {node.state or 'not reached'}" for node in missing)
                raise errors.PeerUnreachableError(
                    f"not up after {timeout_s:.0f} s: {reasons or 'the fleet has no node'}"
                )
            time.sleep(POLL_S)

    def _heard(self, nodes: Iterable[fleet_pb2.NodeAnswer], *, is_stopped: bool) -> list[NodeAnswer]:
        """Wait until the broker has heard from the agents that the nodes obey; returns the answers."""
        answers = [NodeAnswer(node.host, node.node, node.is_reached, node.was_serving) for node in nodes]
        hosts = {answer.host for answer in answers if answer.is_reached}
        end_s = time.monotonic() + HEAR_TIMEOUT_S  # another person may have given the nodes another order
        while time.monotonic() < end_s:
            found = [node for node in self.status().nodes if node.host in hosts]
            if all((node.state == STOPPED) == is_stopped for node in found):
                break
            time.sleep(POLL_S / 10)
        return answers
