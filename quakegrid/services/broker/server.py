"""The broker's port: its services, health and reflection behind mutual TLS."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.clients.audit.sender import AuditSender
from quakegrid.clients.dbserver.credential_watch import CredentialWatch
from quakegrid.internal.v1 import membership_pb2, membership_pb2_grpc, sessions_pb2, sessions_pb2_grpc
from quakegrid.machine import service_life
from quakegrid.reports import task_history_files
from quakegrid.services.broker.broker import Broker
from quakegrid.services.broker.nodes.shut_out import ShutOutNodes
from quakegrid.services.broker.rpc.fleet import FleetServicer
from quakegrid.services.broker.rpc.membership import MembershipServicer
from quakegrid.services.broker.rpc.sessions import SessionsServicer
from quakegrid.services.broker.status.job_totals import JobTotals
from quakegrid.settings.config import Settings
from quakegrid.transport import callers, grpc_channels
from quakegrid.transport.audited_calls import Auditor
from quakegrid.transport.old_keys import OldKeyCheck

SERVICES = tuple(
    service.full_name
    for file in (fleet_pb2.DESCRIPTOR, membership_pb2.DESCRIPTOR, sessions_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
)
# For the last records of the audit log.
AUDIT_GRACE_S = 1.0


class BrokerServer:
    """The broker's port, with health and reflection.

    Raises:
        QuakeGridError: the port is taken.
    """

    def __init__(self, broker: Broker, settings: Settings, job_totals: JobTotals) -> None:
        self._broker, self._settings, self._job_totals = broker, settings, job_totals
        self._health = service_life.Health(SERVICES)
        self._shut_out = ShutOutNodes(broker.nodes)
        self._standing = CredentialWatch(settings, self._on_shut_out)
        self._sender = AuditSender(settings, "broker")
        self._auditor = Auditor("broker", self._sender)
        self._port = service_life.Port(self._make)

    def _make(self) -> grpc.aio.Server:
        settings = self._settings
        interceptors = [
            grpc_channels.SameVersion("broker"),
            OldKeyCheck(settings.proof),
            callers.CallerCheck(self._broker.owner_of_job, self._standing, auditor=self._auditor),
            service_life.BugWatch(),
        ]
        server = grpc.aio.server(interceptors=interceptors, options=grpc_channels.SERVER_OPTIONS)
        fleet = FleetServicer(self._broker, task_history_files.folder(settings), self._job_totals)
        fleet_pb2_grpc.add_FleetServicer_to_server(fleet, server)
        membership = MembershipServicer(self._broker.nodes, self._shut_out, settings)
        membership_pb2_grpc.add_MembershipServicer_to_server(membership, server)
        sessions_pb2_grpc.add_SessionsServicer_to_server(SessionsServicer(self._broker), server)
        self._health.add_to(server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME), server)
        address = f"{settings.broker_listen}:{settings.broker_port}"
        grpc_channels.bind(server, address, settings.proof, ("broker", "[broker] port and listen"))
        return server

    def _on_shut_out(self, hosts: frozenset[str], beginnings: frozenset[str]) -> None:
        self._shut_out.take(hosts)
        self._broker.end_sessions_of(beginnings)

    async def start(self) -> None:
        """Begin to serve, and to hear of nodes that are shut out."""
        self._standing.start()
        await self._port.start()
        await self._health.tell(is_serving=True)

    async def wait_until_closed(self) -> None:
        """Wait until the port is stopped; raises what closed it for good."""
        await self._port.stay_open()

    async def refuse(self) -> None:
        """Tell those who ask that we are about to stop."""
        await self._health.tell(is_serving=False)

    async def stop(self, timeout_s: float) -> None:
        """Refuse new calls, and end running ones after the time."""
        self._standing.close()
        await self._port.stop(timeout_s)
        await self.end_audit(AUDIT_GRACE_S)

    async def end_audit(self, timeout_s: float) -> None:
        """Hand what was audited to the dbserver, if it answers in time."""
        self._auditor.close()
        await self._sender.close(timeout_s)
