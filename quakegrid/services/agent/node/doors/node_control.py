"""Requests of people and the broker that concern the whole node: decode, call, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc

from quakegrid import errors
from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.services.agent.node.agent import Agent
from quakegrid.services.agent.node.output.log_tail import LogTail
from quakegrid.transport import error_details

Context = grpc.aio.ServicerContext[Any, Any]


class NodesServicer(nodes_pb2_grpc.NodesServicer):
    """See protos/quakegrid/api/v1/nodes.proto."""

    def __init__(self, agent: Agent, log_tail: LogTail) -> None:
        self._agent, self._log_tail = agent, log_tail
        self._leaving: set[asyncio.Task[str]] = set()

    async def GetStatus(  # noqa: N802
        self,
        request: nodes_pb2.GetAgentStatusRequest,  # noqa: ARG002
        context: Context,  # noqa: ARG002
    ) -> nodes_pb2.GetAgentStatusResponse:
        """GetStatus, see the contract."""
        return nodes_pb2.GetAgentStatusResponse(status=self._agent.status(with_samples=True))

    async def SetCores(  # noqa: N802
        self, request: nodes_pb2.SetCoresRequest, context: Context
    ) -> nodes_pb2.SetCoresResponse:
        """SetCores, see the contract."""
        try:
            self._agent.serving.set_cores(request.core_count)
        except errors.UsageError as exc:
            await _abort(context, exc)
        status = self._agent.status()
        return nodes_pb2.SetCoresResponse(core_count=status.core_count, all_core_count=status.all_core_count)

    async def StartServing(  # noqa: N802
        self, request: nodes_pb2.StartServingRequest, context: Context
    ) -> nodes_pb2.StartServingResponse:
        """StartServing, see the contract."""
        try:
            was_serving = self._agent.serving.start(request.core_count)
        except errors.UsageError as exc:
            await _abort(context, exc)
        return nodes_pb2.StartServingResponse(was_serving=was_serving, node=self._agent.node)

    async def StopServing(  # noqa: N802
        self,
        request: nodes_pb2.StopServingRequest,
        context: Context,  # noqa: ARG002
    ) -> nodes_pb2.StopServingResponse:
        """StopServing, see the contract."""
        was_serving = self._agent.serving.stop(is_forced=request.force)
        return nodes_pb2.StopServingResponse(
            was_serving=was_serving, node=self._agent.node, worker_count=self._agent.worker_count
        )

    async def RestartServing(  # noqa: N802
        self,
        request: nodes_pb2.RestartServingRequest,
        context: Context,  # noqa: ARG002
    ) -> nodes_pb2.RestartServingResponse:
        """RestartServing, see the contract."""
        was_serving = self._agent.serving.restart(is_forced=request.force)
        return nodes_pb2.RestartServingResponse(
            was_serving=was_serving, node=self._agent.node, driver_count=self._agent.driver_count
        )

    async def Join(self, request: nodes_pb2.JoinRequest, context: Context) -> nodes_pb2.JoinResponse:  # noqa: N802
        """Join, see the contract."""
        try:
            joined = await self._agent.membership.join(request.master)
        except errors.QuakeGridError as exc:
            await _abort(context, exc)
        return nodes_pb2.JoinResponse(host=joined.host, is_configured=joined.is_configured)

    async def Leave(self, request: nodes_pb2.LeaveRequest, context: Context) -> nodes_pb2.LeaveResponse:  # noqa: N802
        """Leave, see the contract; goes on when the caller has gone."""
        leaving = asyncio.ensure_future(self._agent.membership.leave(is_forced=request.force))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        try:
            return nodes_pb2.LeaveResponse(master=await asyncio.shield(leaving))
        except errors.QuakeGridError as exc:
            await _abort(context, exc)

    async def TailNodeLog(  # noqa: N802
        self,
        request: nodes_pb2.TailNodeLogRequest,
        context: Context,  # noqa: ARG002
    ) -> AsyncIterator[nodes_pb2.TailNodeLogResponse]:
        """TailNodeLog, see the contract."""
        async for lines in self._log_tail.tail(request.line_count, follow=request.follow):
            yield nodes_pb2.TailNodeLogResponse(lines=lines)


async def _abort(context: Context, exc: errors.QuakeGridError) -> NoReturn:
    match exc:
        case errors.UsageError():
            code = grpc.StatusCode.INVALID_ARGUMENT
        case errors.PeerUnreachableError():
            code = grpc.StatusCode.ABORTED
        case _:
            code = grpc.StatusCode.FAILED_PRECONDITION
    await error_details.abort(context, code, exc)
