"""The calls of agents that join and leave the fleet: decode, call, encode."""

from __future__ import annotations

from quakegrid import errors
from quakegrid.access.principals import PrincipalRole
from quakegrid.internal.v1 import membership_pb2, membership_pb2_grpc
from quakegrid.services.broker.nodes.registry import NodeRegistry
from quakegrid.services.broker.nodes.shut_out import ShutOutNodes
from quakegrid.services.broker.rpc import peer_input
from quakegrid.services.broker.rpc.answers import Context, answering
from quakegrid.settings.config import Settings
from quakegrid.transport import callers


class MembershipServicer(membership_pb2_grpc.MembershipServicer):
    """See protos/quakegrid/internal/v1/membership.proto."""

    def __init__(self, nodes: NodeRegistry, shut_out: ShutOutNodes, settings: Settings) -> None:
        self._nodes, self._shut_out, self._settings = nodes, shut_out, settings

    async def JoinNode(  # noqa: N802
        self,
        request: membership_pb2.JoinNodeRequest,
        context: Context,
    ) -> membership_pb2.JoinNodeResponse:
        """JoinNode, see the contract."""
        async with answering(context):
            peer_input.check_join(request)
        address = f"{request.address or request.host}:{request.port}"
        host = self._name(request, address)
        async with answering(context):
            self._shut_out.check(host)
            self._nodes.join(host, address)
        return membership_pb2.JoinNodeResponse(host=host, is_configured=host in self._nodes.configured)

    def _name(self, request: membership_pb2.JoinNodeRequest, address: str) -> str:
        """What the fleet calls the node: as its certificate does; a node with the authkey by its address."""
        if callers.current().role is PrincipalRole.NODE:
            return request.host
        usual = request.port == self._settings.agent_port
        return self._nodes.host_of(request.instance_id) or (request.host if usual else address)

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
