"""The broker's link to the agent of one node: watches it, and passes on orders.

Knows gRPC and one agent; decides nothing. While the agent does not answer, the link tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc

from quakegrid import rpc
from quakegrid.api.v1 import agent_pb2, agent_pb2_grpc, node_control_pb2_grpc
from quakegrid.config import Settings

T = TypeVar("T")

log = logging.getLogger("quakegrid.broker")
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
ORDER_TIMEOUT_S = 30.0


class NodeLink:
    """The agent of one host.

    Args:
        settings: of the cluster.
        host: the node's name in the fleet.
        address: `host:port` of its agent.
        on_status: called with the agent's status, at each change, and whether it is the first since we
            reached the agent (again).
        on_exit: called for each worker that ended.
        on_lost: called with the reason when the agent did not answer for `node_timeout_s`.
    """

    def __init__(
        self,
        settings: Settings,
        host: str,
        address: str,
        *,
        on_status: Callable[[str, agent_pb2.AgentStatus, bool], None],
        on_exit: Callable[[agent_pb2.WorkerExited], None],
        on_lost: Callable[[str, str], None],
    ) -> None:
        self.host = host
        self.address = address
        self._settings = settings
        self._on_status, self._on_exit, self._on_lost = on_status, on_exit, on_lost
        self._channel: grpc.aio.Channel | None = None  # None while the agent does not answer
        self._is_first = True
        self._lost_timer: asyncio.TimerHandle | None = None
        self._runner: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Let go of the agent; nothing is reported any more."""
        if self._runner:
            self._runner.cancel()
        if self._lost_timer:
            self._lost_timer.cancel()

    async def run(self) -> None:
        """Watch the agent for ever; cancel to stop."""
        self._runner = asyncio.current_task()
        failures = 0
        try:
            while True:
                was_reached, reason = await self._watch()
                failures = 0 if was_reached else failures + 1
                if failures <= 1:
                    log.info("agent_lost host=%s reason=%s", self.host, reason)
                self._start_timer(reason)
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
        finally:
            if self._lost_timer:
                self._lost_timer.cancel()

    async def _watch(self) -> tuple[bool, str]:
        """Follow the agent until the stream breaks; whether it was there, and why it broke."""
        # A channel of its own for each try: its certificate is fresh.
        channel = rpc.open_aio_channel(self.address, self._settings.authkey)
        self._is_first = True
        try:
            self._channel = channel
            async for message in self._stub().Watch(agent_pb2.WatchRequest(is_fleet=True)):
                self._take(message)
        except grpc.aio.AioRpcError as exc:
            detail = (exc.details() or "").partition("\n")[0]
            return not self._is_first, f"its agent does not answer at {self.address} ({detail})"
        finally:
            self._channel = None
            await channel.close(None)
        return not self._is_first, "its agent stopped"

    async def start_workers(
        self, session_id: int, worker_ids: Sequence[str], lane_endpoint: str, worker_setup: bytes
    ) -> list[str]:
        """Ask for workers; returns the ids of those that started."""
        refs = [agent_pb2.WorkerRef(session_id=session_id, worker_id=worker_id) for worker_id in worker_ids]
        request = agent_pb2.StartWorkersRequest(
            workers=refs, lane_endpoint=lane_endpoint, worker_setup=worker_setup
        )
        response = await self._order(lambda stub: stub.StartWorkers(request, timeout=ORDER_TIMEOUT_S))
        return [started.worker_id for started in response.started] if response else []

    async def stop_workers(self, session_id: int, *, is_forced: bool) -> None:
        """Stop the workers of a session; their exits are reported by `on_exit`."""
        request = agent_pb2.StopWorkersRequest(session_id=session_id, force=is_forced)
        await self._order(lambda stub: stub.StopWorkers(request, timeout=ORDER_TIMEOUT_S))

    async def stop_driver(self, pid: int) -> None:
        """Kill a driver on the node."""
        request = agent_pb2.StopDriverRequest(pid=pid)
        await self._order(lambda stub: stub.StopDriver(request, timeout=ORDER_TIMEOUT_S))

    async def control(
        self, call: Callable[[node_control_pb2_grpc.NodeControlAsyncStub], Awaitable[T]]
    ) -> T | None:
        """Ask the node itself for something; None if its agent does not answer."""
        return await self._order(
            lambda _stub: call(node_control_pb2_grpc.NodeControlStub(self._channel))  # type: ignore[arg-type]
        )

    async def _order(self, call: Callable[[agent_pb2_grpc.AgentAsyncStub], Awaitable[T]]) -> T | None:
        """Give an order; None if the agent is not there, which `run` notices too."""
        if self._channel is None:
            return None
        try:
            return await call(self._stub())
        except (grpc.aio.AioRpcError, grpc.aio.UsageError) as exc:  # the latter: closed meanwhile
            log.warning("order_failed host=%s reason=%s", self.host, str(exc).partition("\n")[0])
            return None

    def _stub(self) -> agent_pb2_grpc.AgentAsyncStub:
        return agent_pb2_grpc.AgentStub(self._channel)  # type: ignore[arg-type]

    def _take(self, message: agent_pb2.WatchResponse) -> None:
        if self._lost_timer:
            self._lost_timer.cancel()
            self._lost_timer = None
        if message.HasField("status"):
            self._on_status(self.host, message.status, self._is_first)
            self._is_first = False
        elif message.HasField("worker_exited"):
            self._on_exit(message.worker_exited)

    def _start_timer(self, reason: str) -> None:
        if self._lost_timer is None:
            loop = asyncio.get_running_loop()
            timeout_s = self._settings.node_timeout_s
            self._lost_timer = loop.call_later(timeout_s, self._on_lost, self.host, reason)
