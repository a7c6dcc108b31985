"""The broker's orders to the agent of one node.

An order that cannot be given returns None. The link notices the broken connection by itself, and the broker
compares the agent's reports with what it has ordered. Decides nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import grpc

from quakegrid.access.principals import SERVICE, Principal
from quakegrid.api.v1 import nodes_pb2_grpc
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.nodes.fingerprint import Fingerprint
from quakegrid.services.broker.lanes import door_keys
from quakegrid.transport import error_details
from quakegrid.transport.keys import lane_keys

T = TypeVar("T")

log = logging.getLogger("quakegrid.broker")
ORDER_TIMEOUT_S = 30.0
FLUSH_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkerNeeds:
    """What the workers of a session need.

    Args:
        lane_endpoint: where they connect to.
        setup: a pickled callable that each worker runs at first.
        fingerprint: what the template that forks them must have loaded.
        principal: whose session it is: they run as this person's account.
    """

    lane_endpoint: str
    setup: bytes = b""
    fingerprint: Fingerprint = field(default_factory=dict)
    principal: Principal = SERVICE


class AgentOrders:
    """Gives orders to the agent while there is a channel to it.

    Args:
        host: the node's name in the fleet.
        lane_secret: of the broker; tokens and keys of workers are derived from it.
        ask_timeout_s: how long a question to the agent may take.
    """

    def __init__(self, host: str, lane_secret: str, ask_timeout_s: float) -> None:
        self._host, self._lane_secret, self._ask_timeout_s = host, lane_secret, ask_timeout_s
        # None while the agent does not answer, and until its first report has come.
        self.channel: grpc.aio.Channel | None = None
        # Flushes that the agent has not answered in its stream, by session.
        self._flushes: dict[int, asyncio.Event] = {}

    async def start_workers(
        self,
        session_id: int,
        worker_ids: Sequence[str],
        needs: WorkerNeeds,
        *,
        width: int = 1,
    ) -> list[str] | None:
        """Ask for workers with what a session needs.

        If the answer is lost the connection is given up, so that the agent tells again what it has.

        Args:
            session_id: of the session.
            worker_ids: the fleet's names of the workers.
            needs: of the session.
            width: cores of each worker.
        Returns:
            The names of the workers that were started; None if nobody knows.
        """
        if self.channel is None:
            return []
        key = lane_keys.token_key(self._lane_secret)
        refs = [
            orders_pb2.WorkerRef(
                session_id=session_id,
                worker_id=worker_id,
                token=lane_keys.worker_token(key, session_id, worker_id),
            )
            for worker_id in worker_ids
        ]
        request = orders_pb2.StartWorkersRequest(
            workers=refs,
            lane_endpoint=needs.lane_endpoint,
            worker_setup=needs.setup,
            width=width,
            fingerprint=needs.fingerprint,
            person=needs.principal.person,
            account_id=needs.principal.account_id,
            lane_keys=door_keys.of_broker(self._lane_secret),
        )
        response = await self._order(
            lambda stub: stub.StartWorkers(request, timeout=ORDER_TIMEOUT_S),
            refused=orders_pb2.StartWorkersResponse(),
        )
        if response is None:
            return None
        return [started.worker_id for started in response.started]

    async def renew(self) -> None:
        """Break the connection: the agent's first report over the next one tells which workers it has."""
        if self.channel is not None:
            await self.channel.close(None)

    async def stop_workers(self, session_id: int, *, is_forced: bool, worker_ids: Sequence[str] = ()) -> None:
        """Stop workers of a session; all, if no names are given. The agent reports their ends."""
        request = orders_pb2.StopWorkersRequest(session_id=session_id, force=is_forced, worker_ids=worker_ids)
        await self._order(lambda stub: stub.StopWorkers(request, timeout=ORDER_TIMEOUT_S))

    async def kill_worker(self, session_id: int, worker_id: str, reason: str) -> None:
        """Kill a worker because of the task that it runs; the agent reports its end with this reason."""
        request = orders_pb2.StopWorkersRequest(session_id=session_id, worker_ids=[worker_id], reason=reason)
        await self._order(lambda stub: stub.StopWorkers(request, timeout=ORDER_TIMEOUT_S))

    async def flush_output(self, session_id: int) -> None:
        """Wait until the agent has told all that workers of a session have printed, if the agent answers."""
        flushed = self._flushes.setdefault(session_id, asyncio.Event())
        request = orders_pb2.FlushOutputRequest(session_id=session_id)
        if await self._order(lambda stub: stub.FlushOutput(request, timeout=FLUSH_TIMEOUT_S)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(flushed.wait(), FLUSH_TIMEOUT_S)
        self._flushes.pop(session_id, None)

    def on_flushed(self, session_id: int) -> None:
        """Note that the agent has sent, in its stream, all that workers of a session had printed."""
        if session_id in self._flushes:
            self._flushes[session_id].set()

    async def stop_driver(self, pid: int, person: str) -> None:
        """Kill a driver on the node, if it is a person's; anybody's if the name is empty."""
        request = orders_pb2.StopDriverRequest(pid=pid, person=person)
        await self._order(lambda stub: stub.StopDriver(request, timeout=ORDER_TIMEOUT_S))

    async def find_process(self, pid: int) -> orders_pb2.ProcessState.ValueType:
        """The state of a process of the node; unspecified while the agent does not answer."""
        request = orders_pb2.GetProcessRequest(pid=pid)
        response = await self._order(lambda stub: stub.GetProcess(request, timeout=self._ask_timeout_s))
        # An agent of a later version may know more states.
        is_known = response is not None and response.state in orders_pb2.ProcessState.values()
        return response.state if response and is_known else orders_pb2.PROCESS_STATE_UNSPECIFIED

    async def control(self, call: Callable[[nodes_pb2_grpc.NodesAsyncStub], Awaitable[T]]) -> T | None:
        """Call the agent's service for the whole node; returns None if the agent does not answer."""
        return await self._order(
            lambda _stub: call(nodes_pb2_grpc.NodesStub(self.channel))  # type: ignore[arg-type]
        )

    async def _order(
        self, call: Callable[[orders_pb2_grpc.OrdersAsyncStub], Awaitable[T]], *, refused: T | None = None
    ) -> T | None:
        """Give an order.

        Returns:
            The answer, or `refused` if the agent refused; None if it does not answer, which the link notices,
            too.
        """
        if self.channel is None:
            return None
        try:
            return await call(orders_pb2_grpc.OrdersStub(self.channel))
        except (grpc.aio.AioRpcError, grpc.aio.UsageError) as exc:  # the latter if the channel was closed
            log.warning("order_failed host=%s reason=%s", self._host, str(exc).partition("\n")[0])
            is_refusal = isinstance(exc, grpc.RpcError) and bool(error_details.reason_of(exc))
            return refused if is_refusal else None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The link closed the channel under the call.
            log.warning("order_failed host=%s reason=the connection broke", self._host)
            return None
