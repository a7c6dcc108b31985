"""The agent's port: its services, health and reflection behind mutual TLS."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.clients.audit.sender import AuditSender
from quakegrid.clients.dbserver.credential_watch import CredentialWatch
from quakegrid.doctor.gathering import Gatherer
from quakegrid.internal.v1 import examination_pb2, examination_pb2_grpc, orders_pb2, orders_pb2_grpc
from quakegrid.machine import service_life
from quakegrid.services.agent.node.agent import Agent
from quakegrid.services.agent.node.doors.examination import ExaminationServicer
from quakegrid.services.agent.node.doors.node_control import NodesServicer
from quakegrid.services.agent.node.doors.worker_orders import OrdersServicer
from quakegrid.services.agent.node.output.log_tail import LogTail
from quakegrid.settings.config import Settings
from quakegrid.transport import callers, grpc_channels
from quakegrid.transport.audited_calls import Auditor
from quakegrid.transport.old_keys import OldKeyCheck

SERVICES = tuple(
    service.full_name
    for file in (orders_pb2.DESCRIPTOR, examination_pb2.DESCRIPTOR, nodes_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
)
# For the last records of the audit log.
AUDIT_GRACE_S = 1.0
# How a broker is noticed whose machine has vanished; it must not count as one that watches.
_KEEPALIVE = (("grpc.keepalive_time_ms", 10_000), ("grpc.keepalive_timeout_ms", 5_000))


async def _no_jobs(_job_id: int) -> None:
    """No call of an agent is about a job."""


class AgentServer:
    """The gRPC server of an agent. `port` is where it listens, also if the settings say 0.

    `auditor` makes the records of this agent for the audit log.

    Raises:
        QuakeGridError: the port is taken.
    """

    def __init__(self, agent: Agent, log_tail: LogTail, settings: Settings) -> None:
        self._agent, self._log_tail, self._settings = agent, log_tail, settings
        self.port = settings.agent_port
        self._health = service_life.Health(SERVICES)
        self._standing = CredentialWatch(settings)
        self._sender = AuditSender(settings, f"agent of {agent.node}")
        self.auditor = Auditor(f"agent of {agent.node}", self._sender, node=agent.node)
        self._port = service_life.Port(self._make)

    def _make(self) -> grpc.aio.Server:
        agent, settings = self._agent, self._settings
        interceptors = [
            grpc_channels.SameVersion("agent"),
            OldKeyCheck(settings.proof),
            callers.CallerCheck(_no_jobs, self._standing, auditor=self.auditor, node=settings.node_name),
            service_life.BugWatch(),
        ]
        server = grpc.aio.server(
            interceptors=interceptors, options=(*grpc_channels.SERVER_OPTIONS, *_KEEPALIVE)
        )
        orders_pb2_grpc.add_OrdersServicer_to_server(OrdersServicer(agent), server)
        nodes_pb2_grpc.add_NodesServicer_to_server(NodesServicer(agent, self._log_tail), server)
        examination = ExaminationServicer(
            Gatherer(settings).gather, lambda: agent.serving.core_count, agent.instance_id
        )
        examination_pb2_grpc.add_ExaminationServicer_to_server(examination, server)
        self._health.add_to(server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME), server)
        address = f"{settings.agent_listen}:{self.port}"
        self.port = grpc_channels.bind(
            server, address, settings.proof, ("agent", "[zworkers] ctrl_port and [agent] listen")
        )
        return server

    async def start(self) -> None:
        """Begin to serve."""
        await self._port.start()
        await self._health.tell(is_serving=True)

    async def wait_until_closed(self) -> None:
        """Wait until the port is stopped; raises the error if the port cannot be opened again."""
        await self._port.stay_open()

    async def refuse(self) -> None:
        """Tell callers that this agent is about to stop."""
        await self._health.tell(is_serving=False)

    async def stop(self, timeout_s: float) -> None:
        """Refuse new calls, and end running calls after the grace."""
        self._standing.close()
        await self._port.stop(timeout_s)
        self.auditor.close()
        await self._sender.close(AUDIT_GRACE_S)
