"""Orders of people to nodes, all or some: asks their agents at once, and tells how each answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import grpc

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, nodes_pb2, nodes_pb2_grpc
from quakegrid.services.broker.nodes.link import NodeLink
from quakegrid.services.broker.nodes.orders import ORDER_TIMEOUT_S
from quakegrid.services.broker.nodes.registry import NodeRegistry

Answer = nodes_pb2.StartServingResponse | nodes_pb2.StopServingResponse | nodes_pb2.RestartServingResponse
# The generated module has the stub's type for type checkers only.
Call: TypeAlias = "Callable[[nodes_pb2_grpc.NodesAsyncStub], Awaitable[Answer]]"


class NodeOrders:
    """Gives orders to nodes of a fleet; each method takes their names, none for all.

    Args:
        nodes: of the fleet.
    """

    def __init__(self, nodes: NodeRegistry) -> None:
        self._nodes = nodes

    async def start(self, hosts: Sequence[str]) -> list[fleet_pb2.NodeAnswer]:
        """Let nodes serve.

        Raises:
            NotFoundError: the fleet has no such node; no node got the order.
        """
        order = nodes_pb2.StartServingRequest()
        return await self._ask(hosts, lambda stub: stub.StartServing(order, timeout=ORDER_TIMEOUT_S))

    async def stop(self, hosts: Sequence[str], *, is_forced: bool) -> list[fleet_pb2.NodeAnswer]:
        """Let nodes take no new tasks; raises as `start`."""
        order = nodes_pb2.StopServingRequest(force=is_forced)
        return await self._ask(hosts, lambda stub: stub.StopServing(order, timeout=ORDER_TIMEOUT_S))

    async def restart(self, hosts: Sequence[str], *, is_forced: bool) -> list[fleet_pb2.NodeAnswer]:
        """Give nodes new templates; raises as `start`."""
        order = nodes_pb2.RestartServingRequest(force=is_forced)
        return await self._ask(hosts, lambda stub: stub.RestartServing(order, timeout=ORDER_TIMEOUT_S))

    async def set_cores(self, host: str, core_count: int) -> fleet_pb2.SetNodeCoresResponse:
        """Let a node give so many cores, -1 for all.

        Raises:
            NotFoundError: the fleet has no such node.
            UsageError: the node has not so many.
            PeerUnreachableError: its agent does not answer.
        """
        (link,) = self._links([host])
        if link.orders.channel is None:
            raise errors.PeerUnreachableError(f"the agent of {host} does not answer")
        stub: nodes_pb2_grpc.NodesAsyncStub = nodes_pb2_grpc.NodesStub(link.orders.channel)
        request = nodes_pb2.SetCoresRequest(core_count=core_count)
        try:
            response = await stub.SetCores(request, timeout=ORDER_TIMEOUT_S)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.INVALID_ARGUMENT:
                raise errors.UsageError(exc.details() or "the node has not so many cores") from None
            raise errors.PeerUnreachableError(
                f"the agent of {host} does not answer: {exc.details()}"
            ) from exc
        return fleet_pb2.SetNodeCoresResponse(
            core_count=response.core_count, all_core_count=response.all_core_count
        )

    def _links(self, hosts: Sequence[str]) -> list[NodeLink]:
        links = self._nodes.links
        missing = [host for host in hosts if host not in links]
        if missing:
            raise errors.NotFoundError(f"the fleet has no node {missing[0]}")
        return [links[host] for host in hosts] if hosts else list(links.values())

    async def _ask(self, hosts: Sequence[str], call: Call) -> list[fleet_pb2.NodeAnswer]:
        """An answer of each node, also of nodes that were not reached."""
        return await asyncio.gather(*(_answer(link, call) for link in self._links(hosts)))


async def _answer(link: NodeLink, call: Call) -> fleet_pb2.NodeAnswer:
    answer = await link.orders.control(call)
    if answer is None:
        return fleet_pb2.NodeAnswer(host=link.host)
    return fleet_pb2.NodeAnswer(
        host=link.host, node=answer.node, is_reached=True, was_serving=answer.was_serving
    )
