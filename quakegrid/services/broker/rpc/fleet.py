"""The calls of people about the fleet and its jobs: decode, call, encode."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import grpc

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.reports import task_history_files
from quakegrid.services.broker.broker import Broker
from quakegrid.services.broker.rpc import ends, peer_input, record_stream
from quakegrid.services.broker.rpc.answers import Context, answering
from quakegrid.services.broker.rpc.membership import let_go
from quakegrid.services.broker.rpc.node_orders import NodeOrders
from quakegrid.services.broker.status import metrics
from quakegrid.services.broker.status.job_totals import JobTotals
from quakegrid.transport import callers

WATCH_INTERVAL_S = 0.5


class FleetServicer(fleet_pb2_grpc.FleetServicer):
    """See protos/quakegrid/api/v1/fleet.proto."""

    def __init__(self, broker: Broker, records: Path, job_totals: JobTotals) -> None:
        self._broker, self._records, self._job_totals = broker, records, job_totals
        self._orders = NodeOrders(broker.nodes)

    async def AbortJob(  # noqa: N802
        self,
        request: fleet_pb2.AbortJobRequest,
        context: grpc.aio.ServicerContext[fleet_pb2.AbortJobRequest, fleet_pb2.AbortJobResponse],
    ) -> fleet_pb2.AbortJobResponse:
        """AbortJob, see the contract."""
        async with answering(context):
            was_running = await self._broker.abort_job(
                request.job_id, callers.current().asker(request.user_name)
            )
        return fleet_pb2.AbortJobResponse(was_running=was_running)

    async def EndSessions(  # noqa: N802
        self,
        request: fleet_pb2.EndSessionsRequest,
        context: grpc.aio.ServicerContext[fleet_pb2.EndSessionsRequest, fleet_pb2.EndSessionsResponse],
    ) -> fleet_pb2.EndSessionsResponse:
        """EndSessions, see the contract."""
        async with answering(context):
            job_ids, session_count = await self._broker.end_sessions(
                request.person, callers.current().asker(request.user_name)
            )
        return fleet_pb2.EndSessionsResponse(job_ids=job_ids, session_count=session_count)

    async def GetStatus(  # noqa: N802
        self,
        request: fleet_pb2.GetStatusRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[fleet_pb2.GetStatusRequest, fleet_pb2.GetStatusResponse],  # noqa: ARG002
    ) -> fleet_pb2.GetStatusResponse:
        """GetStatus, see the contract."""
        return self._broker.status()

    async def WatchStatus(  # noqa: N802
        self,
        request: fleet_pb2.WatchStatusRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[fleet_pb2.WatchStatusRequest, fleet_pb2.WatchStatusResponse],  # noqa: ARG002
    ) -> AsyncIterator[fleet_pb2.WatchStatusResponse]:
        """WatchStatus, see the contract."""
        told: fleet_pb2.GetStatusResponse | None = None
        while not self._broker.stopping.is_set():
            # The first one is as things are now; the caller may have changed them.
            status = self._broker.recent_status() if told else self._broker.status()
            if status != told:
                yield fleet_pb2.WatchStatusResponse(status=status)
                told = status
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._broker.stopping.wait(), WATCH_INTERVAL_S)

    async def GetMetrics(  # noqa: N802
        self,
        request: fleet_pb2.GetMetricsRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[fleet_pb2.GetMetricsRequest, fleet_pb2.GetMetricsResponse],  # noqa: ARG002
    ) -> fleet_pb2.GetMetricsResponse:
        """GetMetrics, see the contract."""
        return fleet_pb2.GetMetricsResponse(text=metrics.text(self._broker.status, self._job_totals))

    async def WaitForNodes(  # noqa: N802
        self,
        request: fleet_pb2.WaitForNodesRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[fleet_pb2.WaitForNodesRequest, fleet_pb2.WaitForNodesResponse],  # noqa: ARG002
    ) -> fleet_pb2.WaitForNodesResponse:
        """WaitForNodes, see the contract."""
        return fleet_pb2.WaitForNodesResponse(nodes=await self._broker.wait_for_nodes())

    async def GetTaskRecords(  # noqa: N802
        self,
        request: fleet_pb2.GetTaskRecordsRequest,
        context: grpc.aio.ServicerContext[fleet_pb2.GetTaskRecordsRequest, fleet_pb2.GetTaskRecordsResponse],
    ) -> AsyncIterator[fleet_pb2.GetTaskRecordsResponse]:
        """GetTaskRecords, see the contract."""
        async with answering(context):
            path = await asyncio.to_thread(task_history_files.find, self._records, request.id)
        if request.follow:
            session_id = int(path.name)
            is_open = partial(self._broker.is_open, session_id)
            async for blocks in record_stream.follow(path, is_open, self._broker.stopping):
                yield fleet_pb2.GetTaskRecordsResponse(blocks=blocks)
            return
        parcels = task_history_files.parcels(path)
        while parcel := await asyncio.to_thread(next, parcels, None):
            yield fleet_pb2.GetTaskRecordsResponse(blocks=parcel)

    async def ForgetNode(  # noqa: N802
        self, request: fleet_pb2.ForgetNodeRequest, context: Context
    ) -> fleet_pb2.ForgetNodeResponse:
        """ForgetNode, see the contract."""
        link = self._broker.nodes.links.get(request.host)
        async with answering(context):
            if link is None:
                raise errors.NotFoundError(f"the fleet has no node {request.host}")
            if link.is_reached and request.host not in self._broker.nodes.configured:
                raise errors.StateError(
                    f"{request.host} is not gone, its agent answers: `agentctl leave` on that node"
                )
        await let_go(self._broker.nodes, request.host, context)
        return fleet_pb2.ForgetNodeResponse()

    async def StartNodes(  # noqa: N802
        self, request: fleet_pb2.StartNodesRequest, context: Context
    ) -> fleet_pb2.StartNodesResponse:
        """StartNodes, see the contract."""
        async with answering(context):
            return fleet_pb2.StartNodesResponse(nodes=await self._orders.start(request.hosts))

    async def StopNodes(  # noqa: N802
        self, request: fleet_pb2.StopNodesRequest, context: Context
    ) -> fleet_pb2.StopNodesResponse:
        """StopNodes, see the contract."""
        async with answering(context):
            nodes = await self._orders.stop(request.hosts, is_forced=request.force)
        return fleet_pb2.StopNodesResponse(nodes=nodes)

    async def RestartNodes(  # noqa: N802
        self, request: fleet_pb2.RestartNodesRequest, context: Context
    ) -> fleet_pb2.RestartNodesResponse:
        """RestartNodes, see the contract."""
        async with answering(context):
            nodes = await self._orders.restart(request.hosts, is_forced=request.force)
        return fleet_pb2.RestartNodesResponse(nodes=nodes)

    async def SetNodeCores(  # noqa: N802
        self, request: fleet_pb2.SetNodeCoresRequest, context: Context
    ) -> fleet_pb2.SetNodeCoresResponse:
        """SetNodeCores, see the contract."""
        async with answering(context):
            return await self._orders.set_cores(request.host, request.core_count)

    async def ListEvents(  # noqa: N802
        self, request: fleet_pb2.ListEventsRequest, context: Context
    ) -> fleet_pb2.ListEventsResponse:
        """ListEvents, see the contract."""
        async with answering(context):
            events = self._broker.events.since(request.after_id, peer_input.event_count(request.limit))
        return fleet_pb2.ListEventsResponse(events=events)

    async def WatchEvents(  # noqa: N802
        self,
        request: fleet_pb2.WatchEventsRequest,
        context: grpc.aio.ServicerContext[fleet_pb2.WatchEventsRequest, fleet_pb2.WatchEventsResponse],  # noqa: ARG002
    ) -> AsyncIterator[fleet_pb2.WatchEventsResponse]:
        """WatchEvents, see the contract."""
        events = self._broker.events.follow(request.after_id)
        async for found in ends.until(events, self._broker.stopping):
            yield fleet_pb2.WatchEventsResponse(events=found)
