"""The agent's gRPC face: decode, call the agent, encode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from quakegrid import errors
from quakegrid.api.v1 import agent_pb2, agent_pb2_grpc
from services.agent.agent import Agent

Context = grpc.aio.ServicerContext[Any, Any]


class AgentServicer(agent_pb2_grpc.AgentServicer):
    """See protos/quakegrid/api/v1/agent.proto."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def StartWorkers(  # type: ignore[override]  # noqa: N802
        self, request: agent_pb2.StartWorkersRequest, context: Context
    ) -> agent_pb2.StartWorkersResponse:
        try:
            members = self._agent.start_workers(request)
        except errors.QuakeGridError as exc:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(exc))
        started = [agent_pb2.StartedWorker(worker_id=m.name, pid=m.pid, core=m.core) for m in members]
        return agent_pb2.StartWorkersResponse(started=started)

    async def StopWorkers(  # type: ignore[override]  # noqa: N802
        self, request: agent_pb2.StopWorkersRequest, context: Context  # noqa: ARG002
    ) -> agent_pb2.StopWorkersResponse:
        count = self._agent.stop_workers(request.session_id, request.worker_ids, is_forced=request.force)
        return agent_pb2.StopWorkersResponse(stopped_count=count)

    async def StopDriver(  # type: ignore[override]  # noqa: N802
        self, request: agent_pb2.StopDriverRequest, context: Context  # noqa: ARG002
    ) -> agent_pb2.StopDriverResponse:
        return agent_pb2.StopDriverResponse(was_running=self._agent.stop_driver(request.pid))

    async def GetStatus(  # type: ignore[override]  # noqa: N802
        self, request: agent_pb2.GetAgentStatusRequest, context: Context  # noqa: ARG002
    ) -> agent_pb2.GetAgentStatusResponse:
        return agent_pb2.GetAgentStatusResponse(status=self._agent.status())

    async def Watch(  # type: ignore[override]  # noqa: N802
        self, request: agent_pb2.WatchRequest, context: Context  # noqa: ARG002
    ) -> AsyncIterator[agent_pb2.WatchResponse]:
        queue = self._agent.watch()
        try:
            while True:
                yield await queue.get()
        finally:
            self._agent.unwatch(queue)
