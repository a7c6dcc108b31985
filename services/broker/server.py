"""The broker's gRPC face: decode, call the broker, encode."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from quakegrid import errors
from quakegrid.api.v1 import broker_pb2, broker_pb2_grpc, fleet_control_pb2, fleet_control_pb2_grpc
from quakegrid.machine import service_life
from quakegrid.reports import task_history_files
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials, grpc_channels
from services.broker.broker import Broker
from services.broker.rpc.answers import answering
from services.broker.rpc.fleet_control import FleetControlServicer
from services.broker.status import metrics

SERVICES = tuple(
    service.full_name
    for file in (broker_pb2.DESCRIPTOR, fleet_control_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
)
WATCH_INTERVAL_S = 0.5


class BrokerServer:
    """The broker's port, with health and reflection.

    Raises:
        QuakeGridError: the port is taken.
    """

    def __init__(self, broker: Broker, settings: Settings) -> None:
        self._broker, self._settings = broker, settings
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._port = service_life.Port(self._make)

    def _make(self) -> grpc.aio.Server:
        settings = self._settings
        interceptors = [grpc_channels.SameVersion("broker"), service_life.BugWatch()]
        server = grpc.aio.server(interceptors=interceptors, options=grpc_channels.SERVER_OPTIONS)
        broker_pb2_grpc.add_BrokerServicer_to_server(
            BrokerServicer(self._broker, task_history_files.folder(settings)), server
        )
        fleet_control_pb2_grpc.add_FleetControlServicer_to_server(
            FleetControlServicer(self._broker.members, settings), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME), server)
        address = f"{settings.broker_listen}:{settings.broker_port}"
        try:
            server.add_secure_port(address, credentials.server_credentials(settings.authkey))
        except RuntimeError:
            raise errors.QuakeGridError(
                f"the broker cannot listen on {address}: the port is in use or the address is not ours; "
                "see [broker] port and listen in openquake.cfg"
            ) from None
        return server

    async def start(self) -> None:
        """Begin to serve."""
        await self._port.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def wait_until_closed(self) -> None:
        """Wait until the port is stopped; raises what closed it for good."""
        await self._port.stay_open()

    async def refuse(self) -> None:
        """Tell those who ask that we are about to stop."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def stop(self, timeout_s: float) -> None:
        """Refuse new calls, and end running ones after the time."""
        await self._port.stop(timeout_s)

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *SERVICES):
            await self._health.set(service, status)


class BrokerServicer(broker_pb2_grpc.BrokerServicer):
    """See protos/quakegrid/api/v1/broker.proto."""

    def __init__(self, broker: Broker, records: Path) -> None:
        self._broker, self._records = broker, records

    async def OpenSession(  # noqa: N802
        self,
        request: broker_pb2.OpenSessionRequest,
        context: grpc.aio.ServicerContext[broker_pb2.OpenSessionRequest, broker_pb2.OpenSessionResponse],
    ) -> AsyncIterator[broker_pb2.OpenSessionResponse]:
        """OpenSession, see the contract."""
        async with answering(context):
            session = self._broker.open_session(request)
        events = session.attach()
        try:
            await context.send_initial_metadata(())  # the driver is heard, whatever we have to say
            while (event := await events.get()) is not None:
                session.output.on_taken(event)
                yield event
        finally:
            self._broker.on_stream_ended(session, events)

    async def CloseSession(  # noqa: N802
        self,
        request: broker_pb2.CloseSessionRequest,
        context: grpc.aio.ServicerContext[broker_pb2.CloseSessionRequest, broker_pb2.CloseSessionResponse],
    ) -> broker_pb2.CloseSessionResponse:
        """CloseSession, see the contract."""
        async with answering(context):
            self._broker.close_session(request.session_id)
        return broker_pb2.CloseSessionResponse()

    async def FlushSessionOutput(  # noqa: N802
        self,
        request: broker_pb2.FlushSessionOutputRequest,
        context: grpc.aio.ServicerContext[  # noqa: ARG002
            broker_pb2.FlushSessionOutputRequest, broker_pb2.FlushSessionOutputResponse
        ],
    ) -> broker_pb2.FlushSessionOutputResponse:
        """FlushSessionOutput, see the contract."""
        await self._broker.flush_output(request.session_id)
        return broker_pb2.FlushSessionOutputResponse()

    async def AbortJob(  # noqa: N802
        self,
        request: broker_pb2.AbortJobRequest,
        context: grpc.aio.ServicerContext[broker_pb2.AbortJobRequest, broker_pb2.AbortJobResponse],
    ) -> broker_pb2.AbortJobResponse:
        """AbortJob, see the contract."""
        async with answering(context):
            was_running = await self._broker.abort_job(request.job_id, request.user_name)
        return broker_pb2.AbortJobResponse(was_running=was_running)

    async def GetStatus(  # noqa: N802
        self,
        request: broker_pb2.GetStatusRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[broker_pb2.GetStatusRequest, broker_pb2.GetStatusResponse],  # noqa: ARG002
    ) -> broker_pb2.GetStatusResponse:
        """GetStatus, see the contract."""
        return self._broker.status()

    async def WatchStatus(  # noqa: N802
        self,
        request: broker_pb2.WatchStatusRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[broker_pb2.WatchStatusRequest, broker_pb2.WatchStatusResponse],  # noqa: ARG002
    ) -> AsyncIterator[broker_pb2.WatchStatusResponse]:
        """WatchStatus, see the contract."""
        told: broker_pb2.GetStatusResponse | None = None
        while not self._broker.stopping.is_set():
            status = self._broker.status()
            if status != told:
                yield broker_pb2.WatchStatusResponse(status=status)
                told = status
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._broker.stopping.wait(), WATCH_INTERVAL_S)

    async def GetMetrics(  # noqa: N802
        self,
        request: broker_pb2.GetMetricsRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[broker_pb2.GetMetricsRequest, broker_pb2.GetMetricsResponse],  # noqa: ARG002
    ) -> broker_pb2.GetMetricsResponse:
        """GetMetrics, see the contract."""
        return broker_pb2.GetMetricsResponse(text=metrics.text(self._broker.status))

    async def WaitForNodes(  # noqa: N802
        self,
        request: broker_pb2.WaitForNodesRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[broker_pb2.WaitForNodesRequest, broker_pb2.WaitForNodesResponse],  # noqa: ARG002
    ) -> broker_pb2.WaitForNodesResponse:
        """WaitForNodes, see the contract."""
        return broker_pb2.WaitForNodesResponse(nodes=await self._broker.wait_for_nodes())

    async def GetTaskRecords(  # noqa: N802
        self,
        request: broker_pb2.GetTaskRecordsRequest,
        context: grpc.aio.ServicerContext[
            broker_pb2.GetTaskRecordsRequest, broker_pb2.GetTaskRecordsResponse
        ],
    ) -> AsyncIterator[broker_pb2.GetTaskRecordsResponse]:
        """GetTaskRecords, see the contract."""
        async with answering(context):
            path = await asyncio.to_thread(task_history_files.find, self._records, request.id)
        parcels = task_history_files.parcels(path)
        while parcel := await asyncio.to_thread(next, parcels, None):
            yield broker_pb2.GetTaskRecordsResponse(blocks=parcel)
