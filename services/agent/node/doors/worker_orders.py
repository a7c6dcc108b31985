"""The agent's gRPC face: decode, call the agent, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from quakegrid import errors
from quakegrid.api.v1 import agent_pb2, agent_pb2_grpc
from services.agent.linux import processes
from services.agent.node.agent import Agent
from services.agent.node.doors import request_checks
from services.agent.node.watches import beating, sampled

Context = grpc.aio.ServicerContext[Any, Any]


class AgentServicer(agent_pb2_grpc.AgentServicer):
    """See protos/quakegrid/api/v1/agent.proto."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def StartWorkers(  # noqa: N802
        self, request: agent_pb2.StartWorkersRequest, context: Context
    ) -> agent_pb2.StartWorkersResponse:
        """StartWorkers, see the contract."""
        try:
            members = self._agent.start_workers(request)
        except errors.UsageError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        except errors.QuakeGridError as exc:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(exc))
        started = [agent_pb2.StartedWorker(worker_id=m.name, pid=m.pid, core=m.core) for m in members]
        return agent_pb2.StartWorkersResponse(started=started)

    async def StopWorkers(  # noqa: N802
        self,
        request: agent_pb2.StopWorkersRequest,
        context: Context,
    ) -> agent_pb2.StopWorkersResponse:
        """StopWorkers, see the contract."""
        try:
            request_checks.check_stop_workers(request)
        except errors.UsageError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        if request.reason:
            count = self._agent.kill_overdue(request.session_id, request.worker_ids, request.reason)
        else:
            count = self._agent.stop_workers(request.session_id, request.worker_ids, is_forced=request.force)
        return agent_pb2.StopWorkersResponse(stopped_count=count)

    async def StopDriver(  # noqa: N802
        self,
        request: agent_pb2.StopDriverRequest,
        context: Context,  # noqa: ARG002
    ) -> agent_pb2.StopDriverResponse:
        """StopDriver, see the contract."""
        return agent_pb2.StopDriverResponse(was_running=self._agent.stop_driver(request.pid))

    async def GetProcess(  # noqa: N802
        self,
        request: agent_pb2.GetProcessRequest,
        context: Context,  # noqa: ARG002
    ) -> agent_pb2.GetProcessResponse:
        """GetProcess, see the contract."""
        return agent_pb2.GetProcessResponse(state=processes.process_state(request.pid))

    async def GetStatus(  # noqa: N802
        self,
        request: agent_pb2.GetAgentStatusRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> agent_pb2.GetAgentStatusResponse:
        """GetStatus, see the contract."""
        return agent_pb2.GetAgentStatusResponse(status=self._agent.status(with_samples=True))

    async def FlushOutput(  # noqa: N802
        self,
        request: agent_pb2.FlushOutputRequest,
        context: Context,  # noqa: ARG002
    ) -> agent_pb2.FlushOutputResponse:
        """FlushOutput, see the contract."""
        self._agent.flush_output(request.session_id)
        return agent_pb2.FlushOutputResponse()

    async def Watch(  # noqa: N802
        self,
        request: agent_pb2.WatchRequest,
        context: Context,  # noqa: ARG002
    ) -> AsyncIterator[agent_pb2.WatchResponse]:
        """Watch, see the contract."""
        self._agent.fleet_watch_count += request.is_fleet
        queue = self._agent.watch()
        try:
            async for message in sampled(self._agent, queue) if request.with_samples else beating(queue):
                yield message
        finally:
            self._agent.fleet_watch_count -= request.is_fleet
            self._agent.watchers.remove(queue)

    async def SetCores(  # noqa: N802
        self, request: agent_pb2.SetCoresRequest, context: Context
    ) -> agent_pb2.SetCoresResponse:
        """SetCores, see the contract."""
        try:
            self._agent.serving.set_cores(request.core_count)
        except errors.UsageError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))
        status = self._agent.status()
        return agent_pb2.SetCoresResponse(core_count=status.core_count, all_core_count=status.all_core_count)
