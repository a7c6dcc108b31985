"""The calls of agents that join and leave the fleet: decode, call, encode."""

from __future__ import annotations

from quakegrid import errors
from quakegrid.internal.v1 import membership_pb2, membership_pb2_grpc
from quakegrid.settings.config import Settings
from services.broker.nodes.registry import NodeRegistry
from services.broker.rpc import peer_input
from services.broker.rpc.answers import Context, answering


class MembershipServicer(membership_pb2_grpc.MembershipServicer):
    """See protos/quakegrid/internal/v1/membership.proto."""

    def __init__(self, nodes: NodeRegistry, settings: Settings) -> None:
        self._nodes, self._settings = nodes, settings

    async def JoinNode(  # noqa: N802
        self,
        request: membership_pb2.JoinNodeRequest,
        context: Context,
    ) -> membership_pb2.JoinNodeResponse:
        """JoinNode, see the contract."""
        async with answering(context):
            peer_input.check_join(request)
        address = f"{request.host}:{request.port}"
        usual = request.port == self._settings.agent_port
        host = self._nodes.host_of(request.instance_id) or (request.host if usual else address)
        async with answering(context):
            self._nodes.join(host, address)
        return membership_pb2.JoinNodeResponse(host=host, is_configured=host in self._nodes.configured)

    async def LeaveNode(  # noqa: N802
        self, request: membership_pb2.LeaveNodeRequest, context: Context
    ) -> membership_pb2.LeaveNodeResponse:
        """LeaveNode, see the contract."""
        await let_go(self._nodes, request.host, context)
        return membership_pb2.LeaveNodeResponse()


async def let_go(nodes: NodeRegistry, host: str, context: Context) -> None:
    """Drain a node that joined, and forget it."""
    async with answering(context):
        if host in nodes.configured:
            raise errors.StateError(
                f"{host} is in host_cores of the master's openquake.cfg: take it out there"
            )
        if not await nodes.leave(host):
            raise errors.StateError(f"{host} joined again while it left")
