"""The broker's gRPC face: decode, call the broker, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from quakegrid import errors, record_files
from quakegrid.api.v1 import broker_pb2, broker_pb2_grpc
from services.broker.broker import Broker


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
        try:
            session = self._broker.open_session(request)
        except errors.StateError as exc:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(exc))
        try:
            while True:
                yield await session.events.get()
        finally:
            await self._broker.end_session(session)

    async def AbortJob(  # noqa: N802
        self,
        request: broker_pb2.AbortJobRequest,
        context: grpc.aio.ServicerContext[broker_pb2.AbortJobRequest, broker_pb2.AbortJobResponse],
    ) -> broker_pb2.AbortJobResponse:
        """AbortJob, see the contract."""
        try:
            was_running = await self._broker.abort_job(request.job_id, request.user_name)
        except errors.NotFoundError as exc:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(exc))
        except errors.PeerUnreachableError as exc:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(exc))
        return broker_pb2.AbortJobResponse(was_running=was_running)

    async def GetStatus(  # noqa: N802
        self,
        request: broker_pb2.GetStatusRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[broker_pb2.GetStatusRequest, broker_pb2.GetStatusResponse],  # noqa: ARG002
    ) -> broker_pb2.GetStatusResponse:
        """GetStatus, see the contract."""
        return self._broker.status()

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
        try:
            path = await asyncio.to_thread(record_files.find, self._records, request.id)
        except errors.NotFoundError as exc:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(exc))
        parcels = record_files.parcels(path)
        while parcel := await asyncio.to_thread(next, parcels, None):
            yield broker_pb2.GetTaskRecordsResponse(blocks=parcel)
