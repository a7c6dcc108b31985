"""The broker's link to the agent of one node: reads the agent's stream.

Decides nothing. While the agent does not answer, the link tries again. Orders to
the agent are in `orders.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

import grpc

from quakegrid import errors
from quakegrid.access.proofs import Proof
from quakegrid.api.v1 import nodes_pb2
from quakegrid.clients import agent
from quakegrid.clients.backoff import Backoff
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.machine import service_logs
from quakegrid.nodes.fingerprint import CLOCK_FITS, describe_clock
from quakegrid.services.broker.nodes import link_failures
from quakegrid.services.broker.nodes.orders import AgentOrders
from quakegrid.services.broker.nodes.silence import LossTimer
from quakegrid.services.broker.rpc import peer_input
from quakegrid.settings import lane_secrets
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels

log = logging.getLogger("quakegrid.broker")
FIRST_RETRY_S = 0.1
LAST_RETRY_S = 2.0
# An agent sends a message each second. If none comes for this part of `node_timeout`, the connection is
# broken.
SILENT_PART = 1 / 3
# How often clocks are compared, since a clock may be set while the node is in the fleet.
CLOCK_LOOK_S = 30.0
# The length of a state in words; lists of nodes show it.
MAX_STATE_CHARS = 1000
# The states of nodes that are not available. For other nodes lists show the state of the template.
SERVICE_STATES = {
    nodes_pb2.SERVICE_STATE_STOPPED: "stopped",
    nodes_pb2.SERVICE_STATE_RESTARTING: "restarting",
}


def describe_state(status: nodes_pb2.AgentStatus) -> str:
    """The template's state in words, and why the node gives fewer cores than it has."""
    if status.service_state in SERVICE_STATES:
        return SERVICE_STATES[status.service_state]
    state = status.template_state
    if status.core_count < status.all_core_count:
        state += f", gives {status.core_count} of {status.all_core_count} cores (agentctl cores)"
    if status.is_short_of_memory:
        state += ", short of memory: one worker goes on"
    return state[:MAX_STATE_CHARS]


class AgentListener(Protocol):
    """The receiver of what agents tell."""

    def on_status(self, host: str, status: nodes_pb2.AgentStatus, is_first: bool) -> None:
        """An agent told its status, at each change of it.

        Args:
            host: the node's name in the fleet.
            status: of the agent.
            is_first: whether the agent was just reached, for the first time or again.
        Raises:
            PeerError: the status cannot be true. The link then drops the connection.
        """

    def on_worker_ended(self, host: str, ended: orders_pb2.WorkerEnd) -> None:
        """Called when a worker of the node has ended."""

    def on_output(self, output: orders_pb2.WorkerOutput) -> None:
        """Called when a worker has printed something."""

    def on_lost(self, host: str, reason: str) -> None:
        """Called when the agent was silent for `node_timeout_s`, and again whenever the reason changes."""


class NodeLink:
    """The agent of one host.

    Args:
        settings: of the cluster.
        host: the node's name in the fleet.
        address: `host:port` of its agent.
        listener: is called with what the agent tells.
        open_channel: opens a connection to an address with the cluster's key, to the agent of this host.
    """

    def __init__(
        self,
        settings: Settings,
        host: str,
        address: str,
        listener: AgentListener,
        *,
        open_channel: Callable[[str, Proof, str], grpc.aio.Channel] = grpc_channels.open_aio_channel,
    ) -> None:
        self.host, self.address = host, address
        self._settings, self._listener, self._open_channel = settings, listener, open_channel
        self._silent_s = max(2 * agent.BEAT_S, settings.node_timeout_s * SILENT_PART)
        self.orders = AgentOrders(host, lane_secrets.of_broker(settings.state_dir), self._silent_s)
        self._is_first = True
        self.status: nodes_pb2.AgentStatus | None = None  # as told last in this stream
        self.sample: nodes_pb2.NodeSample | None = None  # likewise
        self._told_proof_kind = nodes_pb2.NODE_PROOF_KIND_UNSPECIFIED  # as told last, in any stream
        self.clock = CLOCK_FITS  # its clock against ours, in words
        self._loss: LossTimer | None = None  # while the link runs
        self._runner: asyncio.Task[None] | None = None
        self._nonsense_count = 0  # reports of the agent that were refused

    @property
    def is_reached(self) -> bool:
        """Whether the agent has sent a message on the open stream."""
        return self.orders.channel is not None and not self._is_first

    @property
    def proof_kind(self) -> nodes_pb2.NodeProofKind.ValueType:
        """How the node says that it proves what it is; unspecified while it has said nothing."""
        return self.status.proof_kind if self.status else nodes_pb2.NODE_PROOF_KIND_UNSPECIFIED

    def stop(self) -> None:
        """Close the link; the listener is not called any more."""
        if self._runner:
            self._runner.cancel()
        if self._loss:
            self._loss.stop()

    async def run(self) -> None:
        """Watch the agent until cancelled."""
        self._runner = asyncio.current_task()
        self._loss = LossTimer(
            self._settings.node_timeout_s, lambda reason: self._listener.on_lost(self.host, reason)
        )
        backoff, failure_count = Backoff(FIRST_RETRY_S, LAST_RETRY_S), 0
        try:
            while True:
                was_reached, reason = await self._watch(self._loss)
                failure_count = 0 if was_reached else failure_count + 1
                if was_reached:
                    backoff.reset()
                if failure_count <= 1:
                    log.info("agent_lost host=%s reason=%s", self.host, reason)
                self._loss.fail(reason)
                await asyncio.sleep(backoff.next_s())
        finally:
            self._loss.stop()

    async def _watch(self, loss: LossTimer) -> tuple[bool, str]:
        """Follow the agent until the stream breaks.

        Returns:
            Whether the agent answered, and why the stream broke.
        """
        # A channel of its own for each try: its certificate is fresh.
        channel = self._open_channel(self.address, self._settings.proof, self.host)
        self._is_first, self.status, self.sample = True, None, None
        watching_clock = asyncio.ensure_future(self._watch_clock())
        try:
            await self._follow(channel, loss)
        except grpc.aio.AioRpcError as exc:
            return not self._is_first, self._why(exc)
        except errors.PeerError as exc:
            self._tell_nonsense(exc)
            return False, f"the report of its agent at {self.address} cannot be: {exc}"
        except TimeoutError:
            reason = f"its agent at {self.address} has said nothing for {self._silent_s:g} s"
            return not self._is_first, reason
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return not self._is_first, "it left an order unanswered"  # the orders closed the channel
        finally:
            watching_clock.cancel()
            self.orders.channel = None
            await channel.close(None)
        return not self._is_first, "its agent stopped"

    def _why(self, exc: grpc.aio.AioRpcError) -> str:
        """Why the stream broke, or why there was none."""
        if exc.code() not in grpc_channels.NO_ANSWER:
            words = str(grpc_channels.translate(exc, "agent", self.address))
            is_told = grpc_channels.is_of_service(exc) or self.address in words
            return words if is_told else f"a call of its agent at {self.address} failed: {words}"
        cause = link_failures.cause_of(exc.details() or "", self._told_proof_kind)
        return f"its agent does not answer at {self.address}" + (f" ({cause})" if cause else "")

    async def _follow(self, channel: grpc.aio.Channel, loss: LossTimer) -> None:
        """Take the agent's messages until the stream ends or breaks, or no message comes for long."""
        asked_s = time.time()
        stub: orders_pb2_grpc.OrdersAsyncStub = orders_pb2_grpc.OrdersStub(channel)
        stream = stub.Watch(orders_pb2.WatchRequest(is_fleet=True))
        async with asyncio.timeout(self._silent_s) as silence:
            async for message in stream:
                silence.reschedule(asyncio.get_running_loop().time() + self._silent_s)
                if self._is_first and message.HasField("status"):
                    self._note_clock(message.status, asked_s)
                    # Not before that: the report would count as later than what was ordered, and the node
                    # may be given up as silent.
                    self.orders.channel = channel
                self._take(message)
                loss.hear()  # an impossible message does not count as a sign of life

    def _tell_nonsense(self, exc: errors.PeerError) -> None:
        self._nonsense_count += 1
        if service_logs.is_logged(self._nonsense_count):
            log.warning(
                "agent_report_refused host=%s count=%d reason=%s", self.host, self._nonsense_count, exc
            )

    async def _watch_clock(self) -> None:
        """Compare the clocks now and then, until cancelled."""
        request = nodes_pb2.GetAgentStatusRequest()
        while True:
            await asyncio.sleep(CLOCK_LOOK_S)
            asked_s = time.time()
            response = await self.orders.control(lambda stub: stub.GetStatus(request, timeout=self._silent_s))
            if response and self.status is not None and self._note_clock(response.status, asked_s):
                log.info("clock_changed host=%s clock=%s", self.host, self.clock)
                # The stream's last status is told again, since this answer may be older than it.
                self._listener.on_status(self.host, self.status, False)

    def _note_clock(self, status: nodes_pb2.AgentStatus, asked_s: float) -> bool:
        """Compare the node's clock with ours; returns whether the result has changed."""
        # Not `ToNanoseconds`, which fails for impossible times, and an agent may send any.
        before, node_s = self.clock, status.sent_time.seconds + status.sent_time.nanos / 1e9
        self.clock = describe_clock(node_s=node_s, asked_s=asked_s, answered_s=time.time())
        return self.clock != before

    def _take(self, message: orders_pb2.WatchResponse) -> None:
        """Take one message of the agent. An empty message only says that the agent lives."""
        if message.HasField("sample"):
            peer_input.check_sample(message.sample)
            self.sample = message.sample
        if message.HasField("status"):
            self._listener.on_status(self.host, message.status, self._is_first)
            self.status, self._is_first = message.status, False
            self._told_proof_kind = message.status.proof_kind
        elif message.HasField("worker_ended"):
            self._listener.on_worker_ended(self.host, message.worker_ended)
        elif message.HasField("worker_output"):
            self._listener.on_output(message.worker_output)
        elif message.HasField("output_flushed"):
            self.orders.on_flushed(message.output_flushed.session_id)
