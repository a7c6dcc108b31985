"""The broker's link to the agent of one node: watches it, and passes on orders.

Knows gRPC and one agent; decides nothing. While the agent does not answer, the link tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import grpc

from quakegrid import errors
from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.clients import agent
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.machine import service_logs
from quakegrid.nodes.fingerprint import CLOCK_FITS, Fingerprint, describe_clock
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials, grpc_channels

T = TypeVar("T")

log = logging.getLogger("quakegrid.broker")
RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
ORDER_TIMEOUT_S = 30.0
FLUSH_TIMEOUT_S = 1.0
# A healthy agent is heard each second; this part of `node_timeout` without a word is a broken connection.
SILENT_PART = 1 / 3
# A clock that was wrong when the node came is set right some time later, and the other way round.
CLOCK_LOOK_S = 30.0
# Of a state, which lists of nodes show.
MAX_STATE_CHARS = 1000
# Of a node that is not to be used; else its template's state tells.
SERVICE_STATES = {
    nodes_pb2.SERVICE_STATE_STOPPED: "stopped",
    nodes_pb2.SERVICE_STATE_RESTARTING: "restarting",
}


def describe_state(status: nodes_pb2.AgentStatus) -> str:
    """The template's state, and what keeps a node from giving all its cores."""
    if status.service_state in SERVICE_STATES:
        return SERVICE_STATES[status.service_state]
    state = status.template_state
    if status.core_count < status.all_core_count:
        state += f", gives {status.core_count} of {status.all_core_count} cores (agentctl cores)"
    if status.is_short_of_memory:
        state += ", short of memory: one worker goes on"
    return state[:MAX_STATE_CHARS]


class NodeLink:
    """The agent of one host.

    Args:
        settings: of the cluster.
        host: the node's name in the fleet.
        address: `host:port` of its agent.
        on_status: called with the agent's status, at each change, and whether it is the first since we
            reached the agent (again); raises `PeerError` for one that cannot be, which drops the agent.
        on_exit: called for each worker that ended.
        on_output: called with what workers print.
        on_lost: called with the reason when nothing was heard of the agent for `node_timeout_s`.
    """

    def __init__(
        self,
        settings: Settings,
        host: str,
        address: str,
        *,
        on_status: Callable[[str, nodes_pb2.AgentStatus, bool], None],
        on_exit: Callable[[orders_pb2.WorkerExited], None],
        on_output: Callable[[orders_pb2.WorkerOutput], None],
        on_lost: Callable[[str, str], None],
    ) -> None:
        self.host = host
        self.address = address
        self._settings = settings
        self._on_status, self._on_exit, self._on_lost = on_status, on_exit, on_lost
        self._on_output = on_output
        self._flushes: dict[int, asyncio.Event] = {}  # that the agent has not answered in its stream
        self._channel: grpc.aio.Channel | None = None  # None while the agent does not answer
        self._is_first = True
        self._status: nodes_pb2.AgentStatus | None = None  # as told last in this stream
        self.clock = CLOCK_FITS  # its clock against ours, in words
        self._lost_timer: asyncio.TimerHandle | None = None  # from the first failure on
        self._reason = self._told_reason = ""  # of the last failure, and as told
        self._runner: asyncio.Task[None] | None = None
        self._silent_s = max(2 * agent.BEAT_S, settings.node_timeout_s * SILENT_PART)
        self._heard_s = 0.0
        self._nonsense_count = 0  # reports of the agent that were refused

    @property
    def is_reached(self) -> bool:
        """Whether the agent answers: it has said something in the stream that is open."""
        return self._channel is not None and not self._is_first

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
        self._heard_s = asyncio.get_running_loop().time()
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
        channel = grpc_channels.open_aio_channel(self.address, self._settings.authkey)
        self._is_first, self._status = True, None
        asked_s = time.time()
        watching_clock = asyncio.ensure_future(self._watch_clock())
        try:
            self._channel = channel
            stream = self._stub().Watch(orders_pb2.WatchRequest(is_fleet=True))
            async with asyncio.timeout(self._silent_s) as silence:
                async for message in stream:
                    silence.reschedule(asyncio.get_running_loop().time() + self._silent_s)
                    if self._is_first and message.HasField("status"):
                        self._note_clock(message.status, asked_s)
                    self._take(message)
        except grpc.aio.AioRpcError as exc:
            detail = (exc.details() or "").partition("\n")[0]
            return not self._is_first, f"its agent does not answer at {self.address} ({detail})"
        except errors.PeerError as exc:
            self._nonsense_count += 1
            if service_logs.is_logged(self._nonsense_count):
                log.warning(
                    "agent_report_refused host=%s count=%d reason=%s", self.host, self._nonsense_count, exc
                )
            return False, f"the report of its agent at {self.address} cannot be: {exc}"
        except TimeoutError:
            reason = f"its agent at {self.address} has said nothing for {self._silent_s:g} s"
            return not self._is_first, reason
        finally:
            watching_clock.cancel()
            self._channel = None
            await channel.close(None)
        return not self._is_first, "its agent stopped"

    async def _watch_clock(self) -> None:
        """Compare the clocks now and then; cancel to stop."""
        request = nodes_pb2.GetAgentStatusRequest()
        while True:
            await asyncio.sleep(CLOCK_LOOK_S)
            asked_s = time.time()
            response = await self.control(lambda stub: stub.GetStatus(request, timeout=self._silent_s))
            if response and self._status is not None and self._note_clock(response.status, asked_s):
                log.info("clock_changed host=%s clock=%s", self.host, self.clock)
                # What the stream told last: it may be newer than the answer, or older.
                self._on_status(self.host, self._status, False)

    def _note_clock(self, status: nodes_pb2.AgentStatus, asked_s: float) -> bool:
        """Compare the node's clock with ours; whether it is not as it was."""
        # Not `ToNanoseconds`, which fails for times that no calendar has: this is an agent's word.
        before, node_s = self.clock, status.sent_time.seconds + status.sent_time.nanos / 1e9
        self.clock = describe_clock(node_s=node_s, asked_s=asked_s, answered_s=time.time())
        return self.clock != before

    async def start_workers(
        self,
        session_id: int,
        worker_ids: Sequence[str],
        lane_endpoint: str,
        worker_setup: bytes,
        *,
        width: int = 1,
        fingerprint: Fingerprint | None = None,
    ) -> list[str]:
        """Ask for workers of so many cores, with what a session needs; returns those that started."""
        key = credentials.token_key(self._settings.authkey)
        refs = [
            orders_pb2.WorkerRef(
                session_id=session_id,
                worker_id=worker_id,
                token=credentials.worker_token(key, session_id, worker_id),
            )
            for worker_id in worker_ids
        ]
        request = orders_pb2.StartWorkersRequest(
            workers=refs,
            lane_endpoint=lane_endpoint,
            worker_setup=worker_setup,
            width=width,
            fingerprint=fingerprint or {},
        )
        response = await self._order(lambda stub: stub.StartWorkers(request, timeout=ORDER_TIMEOUT_S))
        return [started.worker_id for started in response.started] if response else []

    async def stop_workers(self, session_id: int, *, is_forced: bool, worker_ids: Sequence[str] = ()) -> None:
        """Stop workers of a session, all if none are named; their exits are reported by `on_exit`."""
        request = orders_pb2.StopWorkersRequest(session_id=session_id, force=is_forced, worker_ids=worker_ids)
        await self._order(lambda stub: stub.StopWorkers(request, timeout=ORDER_TIMEOUT_S))

    async def kill_worker(self, session_id: int, worker_id: str, reason: str) -> None:
        """Kill a worker for what it runs; its exit, with this reason, is reported by `on_exit`."""
        request = orders_pb2.StopWorkersRequest(session_id=session_id, worker_ids=[worker_id], reason=reason)
        await self._order(lambda stub: stub.StopWorkers(request, timeout=ORDER_TIMEOUT_S))

    async def flush_output(self, session_id: int) -> None:
        """Wait until all that workers of a session have printed went to `on_output`, if the agent answers."""
        flushed = self._flushes.setdefault(session_id, asyncio.Event())
        request = orders_pb2.FlushOutputRequest(session_id=session_id)
        if await self._order(lambda stub: stub.FlushOutput(request, timeout=FLUSH_TIMEOUT_S)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(flushed.wait(), FLUSH_TIMEOUT_S)
        self._flushes.pop(session_id, None)

    async def stop_driver(self, pid: int) -> None:
        """Kill a driver on the node."""
        request = orders_pb2.StopDriverRequest(pid=pid)
        await self._order(lambda stub: stub.StopDriver(request, timeout=ORDER_TIMEOUT_S))

    async def control(self, call: Callable[[nodes_pb2_grpc.NodesAsyncStub], Awaitable[T]]) -> T | None:
        """Ask the node itself for something; None if its agent does not answer."""
        return await self._order(
            lambda _stub: call(nodes_pb2_grpc.NodesStub(self._channel))  # type: ignore[arg-type]
        )

    async def find_process(self, pid: int) -> orders_pb2.ProcessState.ValueType:
        """What a process of the node does; unspecified while the agent does not answer."""
        request = orders_pb2.GetProcessRequest(pid=pid)
        response = await self._order(lambda stub: stub.GetProcess(request, timeout=self._silent_s))
        # A later agent may know more states than we do.
        is_known = response is not None and response.state in orders_pb2.ProcessState.values()
        return response.state if response and is_known else orders_pb2.PROCESS_STATE_UNSPECIFIED

    async def _order(self, call: Callable[[orders_pb2_grpc.OrdersAsyncStub], Awaitable[T]]) -> T | None:
        """Give an order; None if the agent is not there, which `run` notices too."""
        if self._channel is None:
            return None
        try:
            return await call(self._stub())
        except (grpc.aio.AioRpcError, grpc.aio.UsageError) as exc:  # the latter: closed meanwhile
            log.warning("order_failed host=%s reason=%s", self.host, str(exc).partition("\n")[0])
            return None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # `_watch` closed the channel under the call.
            log.warning("order_failed host=%s reason=the connection broke", self.host)
            return None

    def _stub(self) -> orders_pb2_grpc.OrdersAsyncStub:
        return orders_pb2_grpc.OrdersStub(self._channel)  # type: ignore[arg-type]

    def _take(self, message: orders_pb2.WatchResponse) -> None:
        """What the agent told; an empty message is a beat, and one that cannot be counts for nothing."""
        if message.HasField("status"):
            self._on_status(self.host, message.status, self._is_first)
            self._status, self._is_first = message.status, False
        elif message.HasField("worker_exited"):
            self._on_exit(message.worker_exited)
        elif message.HasField("worker_output"):
            self._on_output(message.worker_output)
        elif message.HasField("output_flushed") and message.output_flushed.session_id in self._flushes:
            self._flushes[message.output_flushed.session_id].set()
        self._heard_s = asyncio.get_running_loop().time()
        if self._lost_timer:
            self._lost_timer.cancel()
            self._lost_timer, self._told_reason = None, ""

    def _start_timer(self, reason: str) -> None:
        """Tell that the node is lost when its time is over; from then on, each other reason for it."""
        self._reason = reason
        loop = asyncio.get_running_loop()
        lost_s = self._heard_s + self._settings.node_timeout_s
        if self._lost_timer is None:
            self._lost_timer = loop.call_at(lost_s, self._lose)
        elif self._told_reason:
            self._lose()

    def _lose(self) -> None:
        if self._reason != self._told_reason:
            self._told_reason = self._reason
            self._on_lost(self.host, self._reason)
