"""The broker's orders to the agent: decode, call, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc

from quakegrid import errors
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.services.agent.linux import processes
from quakegrid.services.agent.node.agent import Agent
from quakegrid.services.agent.node.doors import request_checks
from quakegrid.services.agent.node.watchers import beating, sampled
from quakegrid.transport import error_details

Context = grpc.aio.ServicerContext[Any, Any]


class OrdersServicer(orders_pb2_grpc.OrdersServicer):
    """See protos/quakegrid/internal/v1/orders.proto."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def StartWorkers(  # noqa: N802
        self, request: orders_pb2.StartWorkersRequest, context: Context
    ) -> orders_pb2.StartWorkersResponse:
        """StartWorkers, see the contract."""
        try:
            request_checks.check_start_workers(request)
            account_id = request.account_id if request.HasField("account_id") else None
            account = await self._agent.accounts.account_of(request.person, account_id)
            members = self._agent.workers.start(request, account)
        except errors.UsageError as exc:
            await error_details.abort(context, grpc.StatusCode.INVALID_ARGUMENT, exc)
        except errors.QuakeGridError as exc:
            await error_details.abort(context, grpc.StatusCode.UNAVAILABLE, exc)
        started = [orders_pb2.StartedWorker(worker_id=m.name, pid=m.pid, core=m.core) for m in members]
        return orders_pb2.StartWorkersResponse(started=started)

    async def StopWorkers(  # noqa: N802
        self,
        request: orders_pb2.StopWorkersRequest,
        context: Context,
    ) -> orders_pb2.StopWorkersResponse:
        """StopWorkers, see the contract."""
        try:
            request_checks.check_stop_workers(request)
        except errors.UsageError as exc:
            await error_details.abort(context, grpc.StatusCode.INVALID_ARGUMENT, exc)
        workers = self._agent.workers
        if request.reason:
            count = workers.kill_overdue(request.session_id, request.worker_ids, request.reason)
        else:
            count = workers.stop(request.session_id, request.worker_ids, is_forced=request.force)
        return orders_pb2.StopWorkersResponse(stopped_count=count)

    async def StopDriver(  # noqa: N802
        self,
        request: orders_pb2.StopDriverRequest,
        context: Context,  # noqa: ARG002
    ) -> orders_pb2.StopDriverResponse:
        """StopDriver, see the contract."""
        was_running = self._agent.drivers.kill(request.pid, request.person)
        return orders_pb2.StopDriverResponse(was_running=was_running)

    async def GetProcess(  # noqa: N802
        self,
        request: orders_pb2.GetProcessRequest,
        context: Context,  # noqa: ARG002
    ) -> orders_pb2.GetProcessResponse:
        """GetProcess, see the contract."""
        return orders_pb2.GetProcessResponse(state=processes.process_state(request.pid))

    async def FlushOutput(  # noqa: N802
        self,
        request: orders_pb2.FlushOutputRequest,
        context: Context,  # noqa: ARG002
    ) -> orders_pb2.FlushOutputResponse:
        """FlushOutput, see the contract."""
        self._agent.output.flush(request.session_id)
        return orders_pb2.FlushOutputResponse()

    async def Watch(  # noqa: N802
        self,
        request: orders_pb2.WatchRequest,
        context: Context,  # noqa: ARG002
    ) -> AsyncIterator[orders_pb2.WatchResponse]:
        """Watch, see the contract."""
        self._agent.fleet_watch_count += request.is_fleet
        queue = self._agent.watch()
        try:
            status = partial(self._agent.status, with_samples=True)
            async for message in (
                sampled(queue, status) if request.with_samples else beating(queue, self._agent.limits.sample)
            ):
                yield message
        finally:
            self._agent.fleet_watch_count -= request.is_fleet
            self._agent.watchers.remove(queue)
