"""An agent in memory that speaks through the real codec: the broker's own link and orders talk to it.

Each message is encoded and decoded as on the wire, by the serializers of the generated stubs and servicers.
Nothing listens on a port.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import grpc

from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc

Handlers = dict[str, Any]


class FakeAgent(orders_pb2_grpc.OrdersServicer, nodes_pb2_grpc.NodesServicer):
    """Does at once what it is ordered, and tells of it.

    Args:
        node: how it calls itself.
        core_count: cores that it gives; it starts no more workers than that.
        instance_id: of its process.
    """

    def __init__(self, node: str, core_count: int = 2, instance_id: str = "") -> None:
        self.node, self.core_count = node, core_count
        self.instance_id = instance_id or f"agent of {node}"
        # Sessions of the workers that it has, and their tokens.
        self.workers: dict[str, int] = {}
        self.tokens: dict[str, str] = {}
        self.starts: list[orders_pb2.StartWorkersRequest] = []
        self.is_full = False
        self.is_cut = False
        self._streams: set[asyncio.Queue[orders_pb2.WatchResponse | None]] = set()
        self._handlers: Handlers = {}
        orders_pb2_grpc.add_OrdersServicer_to_server(self, self)  # type: ignore[arg-type]
        nodes_pb2_grpc.add_NodesServicer_to_server(self, self)  # type: ignore[arg-type]

    # --- what a test does with it

    def open_channel(self, _address: str, _authkey: str, _node: str) -> MemoryChannel:
        """A connection to it, as `grpc_channels.open_aio_channel` opens one."""
        return MemoryChannel(self, self._handlers)

    def tell(self, **fields: Any) -> None:
        """Tell everybody who watches."""
        for stream in self._streams:
            stream.put_nowait(orders_pb2.WatchResponse(**fields))

    def report(self, **fields: Any) -> None:
        """Tell the status, with some of its fields as the test wants them."""
        status = self._status()
        status.MergeFrom(nodes_pb2.AgentStatus(**fields))
        self.tell(status=status)

    def end_worker(self, worker_id: str, reason: str, **fields: Any) -> None:
        """A worker ends by itself; the agent tells of it."""
        session_id = self.workers.pop(worker_id)
        end = orders_pb2.WorkerEnd(worker_id=worker_id, session_id=session_id, reason=reason, **fields)
        self.tell(worker_ended=end)
        self.report()

    def cut(self) -> None:
        """Break the connection: calls fail and streams end until `mend`."""
        self.is_cut = True
        for stream in self._streams:
            stream.put_nowait(None)

    def mend(self) -> None:
        """Let the next try succeed."""
        self.is_cut = False

    # --- what it answers

    async def Watch(  # noqa: N802
        self, _request: orders_pb2.WatchRequest, _context: Any
    ) -> AsyncIterator[orders_pb2.WatchResponse]:
        """Tell the status, and then what happens."""
        stream = asyncio.Queue[orders_pb2.WatchResponse | None]()
        self._streams.add(stream)
        try:
            yield orders_pb2.WatchResponse(status=self._status())
            while (message := await stream.get()) is not None:
                yield message
        finally:
            self._streams.discard(stream)

    async def StartWorkers(  # noqa: N802
        self, request: orders_pb2.StartWorkersRequest, _context: Any
    ) -> orders_pb2.StartWorkersResponse:
        """Start as many as there are cores for."""
        self.starts.append(request)
        free = 0 if self.is_full else self.core_count - len(self.workers)
        started = request.workers[:free]
        for ref in started:
            self.workers[ref.worker_id] = ref.session_id
            self.tokens[ref.worker_id] = ref.token
        self.report()
        return orders_pb2.StartWorkersResponse(
            started=[orders_pb2.StartedWorker(worker_id=ref.worker_id) for ref in started]
        )

    async def StopWorkers(  # noqa: N802
        self, request: orders_pb2.StopWorkersRequest, _context: Any
    ) -> orders_pb2.StopWorkersResponse:
        """End workers of a session; those that are killed for their task do not end in order."""
        names = [
            name
            for name, owner in self.workers.items()
            if owner == request.session_id and (not request.worker_ids or name in request.worker_ids)
        ]
        for name in names:
            self.end_worker(name, request.reason or "stopped by request", is_clean=not request.reason)
        return orders_pb2.StopWorkersResponse(stopped_count=len(names))

    async def StopDriver(  # noqa: N802
        self, _request: orders_pb2.StopDriverRequest, _context: Any
    ) -> orders_pb2.StopDriverResponse:
        """Have no such driver."""
        return orders_pb2.StopDriverResponse()

    async def GetProcess(  # noqa: N802
        self, _request: orders_pb2.GetProcessRequest, _context: Any
    ) -> orders_pb2.GetProcessResponse:
        """Every process runs."""
        return orders_pb2.GetProcessResponse(state=orders_pb2.PROCESS_STATE_RUNNING)

    async def FlushOutput(  # noqa: N802
        self, request: orders_pb2.FlushOutputRequest, _context: Any
    ) -> orders_pb2.FlushOutputResponse:
        """All has been told."""
        self.tell(output_flushed=orders_pb2.OutputFlushed(session_id=request.session_id))
        return orders_pb2.FlushOutputResponse()

    async def GetStatus(  # noqa: N802
        self, _request: nodes_pb2.GetAgentStatusRequest, _context: Any
    ) -> nodes_pb2.GetAgentStatusResponse:
        """Tell the status to whoever asks."""
        return nodes_pb2.GetAgentStatusResponse(status=self._status())

    def _status(self) -> nodes_pb2.AgentStatus:
        status = nodes_pb2.AgentStatus(
            node=self.node,
            core_count=self.core_count,
            all_core_count=self.core_count,
            template_state="warm",
            template_kind=nodes_pb2.TEMPLATE_KIND_WARM,
            service_state=nodes_pb2.SERVICE_STATE_SERVING,
            instance_id=self.instance_id,
            workers=[
                nodes_pb2.WorkerStatus(worker_id=name, session_id=owner)
                for name, owner in self.workers.items()
            ],
        )
        status.sent_time.GetCurrentTime()
        return status

    # --- the server's part of the generated code

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """Registered handlers are enough."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the handlers of a service, with their serializers."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


class MemoryChannel:
    """A channel to a fake agent, for the generated stubs.

    Args:
        agent: that answers.
        handlers: of its services, by method.
    """

    def __init__(self, agent: FakeAgent, handlers: Handlers) -> None:
        self._agent, self._handlers = agent, handlers

    def unary_unary(
        self, method: str, *, request_serializer: Any, response_deserializer: Any, **_rest: Any
    ) -> Callable[..., Any]:
        """A call of one request and one answer."""

        async def call(request: Any, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as gRPC's
            assert timeout, f"{method} without a timeout"
            handler = self._reach(method)
            message = handler.request_deserializer(request_serializer(request))
            answer = await handler.unary_unary(message, None)
            self._reach(method)
            return response_deserializer(handler.response_serializer(answer))

        return call

    def unary_stream(
        self, method: str, *, request_serializer: Any, response_deserializer: Any, **_rest: Any
    ) -> Callable[..., AsyncIterator[Any]]:
        """A call of one request and many answers."""

        async def call(request: Any) -> AsyncIterator[Any]:
            handler = self._reach(method)
            message = handler.request_deserializer(request_serializer(request))
            async for answer in handler.unary_stream(message, None):
                yield response_deserializer(handler.response_serializer(answer))
            self._reach(method)

        return call

    async def close(self, _grace: float | None) -> None:
        """Nothing is kept."""

    def _reach(self, method: str) -> Any:
        """The handler of a method, if the agent can be reached."""
        if self._agent.is_cut:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing, "the link is cut")
        return self._handlers[method]
