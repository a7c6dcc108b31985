"""The broker's gRPC face for who is in the fleet and who serves: decode, call, encode."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from quakegrid.api.v1 import fleet_control_pb2 as pb
from quakegrid.api.v1 import fleet_control_pb2_grpc, node_control_pb2, node_control_pb2_grpc
from quakegrid.settings.config import Settings
from services.broker.nodes.link import ORDER_TIMEOUT_S, NodeLink
from services.broker.nodes.registry import Members
from services.broker.rpc import peer_input
from services.broker.rpc.answers import answering

Context = grpc.aio.ServicerContext[Any, Any]
Answer = (
    node_control_pb2.StartServingResponse
    | node_control_pb2.StopServingResponse
    | node_control_pb2.RestartServingResponse
)
# The generated module has the stub's type for type checkers only.
Call: TypeAlias = "Callable[[node_control_pb2_grpc.NodeControlAsyncStub], Awaitable[Answer]]"


class FleetControlServicer(fleet_control_pb2_grpc.FleetControlServicer):
    """See protos/quakegrid/api/v1/fleet_control.proto."""

    def __init__(self, members: Members, settings: Settings) -> None:
        self._members, self._settings = members, settings

    async def JoinNode(  # noqa: N802
        self,
        request: pb.JoinNodeRequest,
        context: Context,
    ) -> pb.JoinNodeResponse:
        """JoinNode, see the contract."""
        async with answering(context):
            peer_input.check_join(request)
        address = f"{request.host}:{request.port}"
        usual = request.port == self._settings.agent_port
        host = self._members.host_of(request.instance_id) or (request.host if usual else address)
        async with answering(context):
            self._members.join(host, address)
        return pb.JoinNodeResponse(host=host, is_configured=host in self._members.configured)

    async def LeaveNode(  # noqa: N802
        self, request: pb.LeaveNodeRequest, context: Context
    ) -> pb.LeaveNodeResponse:
        """LeaveNode, see the contract."""
        await self._let_go(request.host, context)
        return pb.LeaveNodeResponse()

    async def ForgetNode(  # noqa: N802
        self, request: pb.ForgetNodeRequest, context: Context
    ) -> pb.ForgetNodeResponse:
        """ForgetNode, see the contract."""
        link = self._members.links.get(request.host)
        if link is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"the fleet has no node {request.host}")
        elif link.is_reached and request.host not in self._members.configured:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{request.host} is not gone, its agent answers: `agentctl leave` on that node",
            )
        await self._let_go(request.host, context)
        return pb.ForgetNodeResponse()

    async def StartNodes(  # noqa: N802
        self,
        request: pb.StartNodesRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> pb.StartNodesResponse:
        """StartNodes, see the contract."""
        order = node_control_pb2.StartServingRequest()
        nodes = await self._ask_all(lambda stub: stub.StartServing(order, timeout=ORDER_TIMEOUT_S))
        return pb.StartNodesResponse(nodes=nodes)

    async def StopNodes(  # noqa: N802
        self,
        request: pb.StopNodesRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.StopNodesResponse:
        """StopNodes, see the contract."""
        order = node_control_pb2.StopServingRequest(force=request.force)
        nodes = await self._ask_all(lambda stub: stub.StopServing(order, timeout=ORDER_TIMEOUT_S))
        return pb.StopNodesResponse(nodes=nodes)

    async def RestartNodes(  # noqa: N802
        self,
        request: pb.RestartNodesRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.RestartNodesResponse:
        """RestartNodes, see the contract."""
        order = node_control_pb2.RestartServingRequest(force=request.force)
        nodes = await self._ask_all(lambda stub: stub.RestartServing(order, timeout=ORDER_TIMEOUT_S))
        return pb.RestartNodesResponse(nodes=nodes)

    async def _let_go(self, host: str, context: Context) -> None:
        """Drain a node that joined, and forget it."""
        if host in self._members.configured:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{host} is in host_cores of the master's openquake.cfg: take it out there",
            )
        async with answering(context):
            has_left = await self._members.leave(host)
        if not has_left:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"{host} joined again while it left")

    async def _ask_all(self, call: Call) -> list[pb.NodeAnswer]:
        """Ask every node at once; who does not answer has not heard."""
        return await asyncio.gather(*(_ask(link, call) for link in self._members.links.values()))


async def _ask(link: NodeLink, call: Call) -> pb.NodeAnswer:
    answer = await link.control(call)
    if answer is None:
        return pb.NodeAnswer(host=link.host)
    return pb.NodeAnswer(host=link.host, node=answer.node, is_reached=True, was_serving=answer.was_serving)
