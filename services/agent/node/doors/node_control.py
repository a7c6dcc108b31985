"""The agent's gRPC face for people and the broker, beyond workers: decode, call, encode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc

from quakegrid import errors
from quakegrid.api.v1 import node_control_pb2 as pb
from quakegrid.api.v1 import node_control_pb2_grpc
from services.agent.node.agent import Agent
from services.agent.node.log_tail import LogTail

Context = grpc.aio.ServicerContext[Any, Any]


class NodeControlServicer(node_control_pb2_grpc.NodeControlServicer):
    """See protos/quakegrid/api/v1/node_control.proto."""

    def __init__(self, agent: Agent, log_tail: LogTail) -> None:
        self._agent, self._log_tail = agent, log_tail
        self._leaving: set[asyncio.Task[str]] = set()

    async def StartServing(  # noqa: N802
        self, request: pb.StartServingRequest, context: Context
    ) -> pb.StartServingResponse:
        """StartServing, see the contract."""
        try:
            was_serving = self._agent.serving.start(request.core_count)
        except errors.UsageError as exc:
            await _abort(context, exc)
        return pb.StartServingResponse(was_serving=was_serving, node=self._agent.node)

    async def StopServing(  # noqa: N802
        self,
        request: pb.StopServingRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.StopServingResponse:
        """StopServing, see the contract."""
        was_serving = self._agent.serving.stop(is_forced=request.force)
        return pb.StopServingResponse(
            was_serving=was_serving, node=self._agent.node, worker_count=self._agent.worker_count
        )

    async def RestartServing(  # noqa: N802
        self,
        request: pb.RestartServingRequest,
        context: Context,  # noqa: ARG002
    ) -> pb.RestartServingResponse:
        """RestartServing, see the contract."""
        was_serving = self._agent.serving.restart(is_forced=request.force)
        return pb.RestartServingResponse(
            was_serving=was_serving, node=self._agent.node, driver_count=self._agent.driver_count
        )

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinResponse:  # noqa: N802
        """Join, see the contract."""
        try:
            joined = await self._agent.membership.join(request.master)
        except errors.QuakeGridError as exc:
            await _abort(context, exc)
        return pb.JoinResponse(host=joined.host, is_configured=joined.is_configured)

    async def Leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveResponse:  # noqa: N802
        """Leave, see the contract; goes on when the caller has gone."""
        leaving = asyncio.ensure_future(self._agent.membership.leave(is_forced=request.force))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        try:
            return pb.LeaveResponse(master=await asyncio.shield(leaving))
        except errors.QuakeGridError as exc:
            await _abort(context, exc)

    async def TailNodeLog(  # noqa: N802
        self,
        request: pb.TailNodeLogRequest,
        context: Context,  # noqa: ARG002
    ) -> AsyncIterator[pb.TailNodeLogResponse]:
        """TailNodeLog, see the contract."""
        async for lines in self._log_tail.tail(request.line_count, follow=request.follow):
            yield pb.TailNodeLogResponse(lines=lines)


async def _abort(context: Context, exc: errors.QuakeGridError) -> NoReturn:
    match exc:
        case errors.UsageError():
            code = grpc.StatusCode.INVALID_ARGUMENT
        case errors.PeerUnreachableError():
            code = grpc.StatusCode.ABORTED
        case _:
            code = grpc.StatusCode.FAILED_PRECONDITION
    await context.abort(code, str(exc))
    raise AssertionError("abort raises")
