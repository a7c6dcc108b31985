"""The broker's link to the agent of one node: watches it, and passes on orders.

Knows gRPC and one agent; decides nothing. While the agent does not answer, the link tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import grpc

from quakegrid import rpc
from quakegrid.api.v1 import agent_pb2, agent_pb2_grpc
from quakegrid.config import Settings

log = logging.getLogger("quakegrid.broker")
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
ORDER_TIMEOUT_S = 30.0


class NodeLink:
    """The agent of one host.

    Args:
        settings: of the cluster.
        host: the node's name in `host_cores`.
        on_status: called with the agent's status, at each change.
        on_exit: called for each worker that ended.
        on_lost: called with the reason when the agent did not answer for `node_timeout_s`.
    """

    def __init__(
        self,
        settings: Settings,
        host: str,
        *,
        on_status: Callable[[str, agent_pb2.AgentStatus], None],
        on_exit: Callable[[agent_pb2.WorkerExited], None],
        on_lost: Callable[[str, str], None],
    ) -> None:
        self.host = host
        self.address = f"{host}:{settings.agent_port}"
        self._settings = settings
        self._on_status, self._on_exit, self._on_lost = on_status, on_exit, on_lost
        self._channel: grpc.aio.Channel | None = None
        self._lost_timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Watch the agent for ever; cancel to stop."""
        failures = 0
        try:
            while True:
                # A channel of its own for each try: its certificate is fresh.
                self._channel = rpc.open_aio_channel(self.address, self._settings.authkey)
                try:
                    async for message in self._stub().Watch(agent_pb2.WatchRequest()):
                        failures = 0
                        self._take(message)
                    reason = "its agent stopped"
                except grpc.aio.AioRpcError as exc:
                    reason = f"its agent does not answer at {self.address} ({exc.code().name})"
                    if failures == 0:
                        log.info("agent_unreachable host=%s detail=%s", self.host, exc.details())
                await self._channel.close(None)
                self._start_timer(reason)
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
        finally:
            if self._lost_timer:
                self._lost_timer.cancel()
            if self._channel:
                await self._channel.close(None)

    async def start_workers(
        self, session_id: int, worker_ids: Sequence[str], lane_endpoint: str, worker_setup: bytes
    ) -> list[str]:
        """Ask for workers; returns the ids of those that started."""
        refs = [agent_pb2.WorkerRef(session_id=session_id, worker_id=worker_id) for worker_id in worker_ids]
        request = agent_pb2.StartWorkersRequest(
            workers=refs, lane_endpoint=lane_endpoint, worker_setup=worker_setup
        )
        try:
            response = await self._stub().StartWorkers(request, timeout=ORDER_TIMEOUT_S)
        except grpc.aio.AioRpcError as exc:
            log.warning("start_workers_failed host=%s reason=%s", self.host, exc.details())
            return []
        return [started.worker_id for started in response.started]

    async def stop_workers(self, session_id: int, *, is_forced: bool) -> None:
        """Stop the workers of a session; their exits are reported by `on_exit`."""
        request = agent_pb2.StopWorkersRequest(session_id=session_id, force=is_forced)
        try:
            await self._stub().StopWorkers(request, timeout=ORDER_TIMEOUT_S)
        except grpc.aio.AioRpcError as exc:
            log.warning("stop_workers_failed host=%s reason=%s", self.host, exc.details())

    async def stop_driver(self, pid: int) -> None:
        """Kill a driver on the node."""
        try:
            await self._stub().StopDriver(agent_pb2.StopDriverRequest(pid=pid), timeout=ORDER_TIMEOUT_S)
        except grpc.aio.AioRpcError as exc:
            log.warning("stop_driver_failed host=%s reason=%s", self.host, exc.details())

    def _stub(self) -> agent_pb2_grpc.AgentAsyncStub:
        return agent_pb2_grpc.AgentStub(self._channel)  # type: ignore[arg-type]

    def _take(self, message: agent_pb2.WatchResponse) -> None:
        if self._lost_timer:
            self._lost_timer.cancel()
            self._lost_timer = None
        if message.HasField("status"):
            self._on_status(self.host, message.status)
        elif message.HasField("worker_exited"):
            self._on_exit(message.worker_exited)

    def _start_timer(self, reason: str) -> None:
        if self._lost_timer is None:
            loop = asyncio.get_running_loop()
            timeout_s = self._settings.node_timeout_s
            self._lost_timer = loop.call_later(timeout_s, self._on_lost, self.host, reason)
