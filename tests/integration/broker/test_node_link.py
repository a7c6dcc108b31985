"""The broker's link to an agent that was heard once and then says nothing more."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.nodes.fingerprint import CLOCK_FITS
from quakegrid.services.broker.nodes import link as nodes
from quakegrid.services.broker.nodes.link import NodeLink
from quakegrid.services.broker.nodes.orders import WorkerNeeds
from quakegrid.services.broker.rpc import peer_input
from quakegrid.settings.config import LOOPBACK, Settings
from quakegrid.transport import credentials, grpc_channels
from tests.support.calls import loops


def deaf(*_told: object) -> None:
    """Hear nothing."""


@dataclasses.dataclass
class Ear:
    """Hears of what a test is about."""

    on_status: Callable[[str, nodes_pb2.AgentStatus, bool], Any]
    on_lost: Callable[[str, str], Any]
    on_worker_ended: Callable[..., None] = deaf
    on_output: Callable[..., None] = deaf


class SilentAgent(orders_pb2_grpc.OrdersServicer):
    """Its connection stays, as that of a stopped process does."""

    async def Watch(  # noqa: N802
        self, _request: orders_pb2.WatchRequest, _context: Any
    ) -> AsyncIterator[orders_pb2.WatchResponse]:
        """Say something once."""
        yield orders_pb2.WatchResponse(status=nodes_pb2.AgentStatus(node="silent"))
        await asyncio.Event().wait()

    async def StartWorkers(  # noqa: N802
        self, _request: orders_pb2.StartWorkersRequest, _context: Any
    ) -> orders_pb2.StartWorkersResponse:
        """Take the order, and never answer."""
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def lose_agent(settings: Settings) -> tuple[list[str] | None, str]:
    """What became of an order to it, and why it counts as lost."""
    server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
    orders_pb2_grpc.add_OrdersServicer_to_server(SilentAgent(), server)
    port = server.add_secure_port(f"{LOOPBACK}:0", credentials.server_credentials(settings.authkey))
    await server.start()
    reached, lost = asyncio.Event(), asyncio.get_running_loop().create_future()
    link = NodeLink(
        dataclasses.replace(settings, node_timeout_s=1.0),
        LOOPBACK,
        f"{LOOPBACK}:{port}",
        Ear(
            lambda _host, _status, _is_first: reached.set(),
            lambda _host, reason: lost.done() or lost.set_result(reason),
        ),
    )
    running = asyncio.ensure_future(link.run())
    await reached.wait()
    started = await link.orders.start_workers(1, ["w-1"], WorkerNeeds("tcp://127.0.0.1:1"))
    reason = await lost
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await server.stop(None)
    return started, reason


def test_silent_agent_is_lost_and_its_orders_are_unsure(settings: Settings) -> None:
    """An order that is under way ends with the connection, and its answer is "nobody knows".

    The agent may have started the workers before it fell silent: they count until it tells what it has.
    """
    started, reason = loops.run(lose_agent(settings))

    assert started is None
    assert "has said nothing for" in reason


async def renew_connection(settings: Settings) -> list[bool]:
    """Whether each report is the first of its connection; we break the connection after the first."""
    server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
    orders_pb2_grpc.add_OrdersServicer_to_server(SilentAgent(), server)
    port = server.add_secure_port(f"{LOOPBACK}:0", credentials.server_credentials(settings.authkey))
    await server.start()
    told: asyncio.Queue[bool] = asyncio.Queue()
    ear = Ear(lambda _host, _status, is_first: told.put_nowait(is_first), lambda _host, _reason: None)
    link = NodeLink(settings, LOOPBACK, f"{LOOPBACK}:{port}", ear)
    running = asyncio.ensure_future(link.run())
    reports = [await told.get()]
    await link.orders.renew()
    reports.append(await asyncio.wait_for(told.get(), 30))
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    await server.stop(None)
    return reports


def test_connection_that_is_broken_on_purpose_comes_again(settings: Settings) -> None:
    """An order that nobody answers costs the connection, and never the link."""
    assert loops.run(renew_connection(settings)) == [True, True]


class LateAgent(orders_pb2_grpc.OrdersServicer, nodes_pb2_grpc.NodesServicer):
    """Its clock is an hour behind when it is reached, and then set right."""

    def __init__(self) -> None:
        self._offsets_s = [-3600, -3600, 0]

    async def Watch(  # noqa: N802
        self, _request: orders_pb2.WatchRequest, _context: Any
    ) -> AsyncIterator[orders_pb2.WatchResponse]:
        """Say what there is, and then that we live."""
        yield orders_pb2.WatchResponse(status=self._status("watched"))
        while True:
            await asyncio.sleep(0.1)
            yield orders_pb2.WatchResponse()

    async def GetStatus(  # noqa: N802
        self, _request: nodes_pb2.GetAgentStatusRequest, _context: Any
    ) -> nodes_pb2.GetAgentStatusResponse:
        """Say what there is."""
        return nodes_pb2.GetAgentStatusResponse(status=self._status("asked"))

    def _status(self, node: str) -> nodes_pb2.AgentStatus:
        offset_s = self._offsets_s.pop(0) if len(self._offsets_s) > 1 else self._offsets_s[0]
        status = nodes_pb2.AgentStatus(node=node)
        status.sent_time.FromNanoseconds(time.time_ns() + offset_s * 1_000_000_000)
        return status


async def watch_clock(settings: Settings) -> list[tuple[str, bool, str]]:
    """What is told of the agent, with its clock, until that fits."""
    server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
    agent = LateAgent()
    orders_pb2_grpc.add_OrdersServicer_to_server(agent, server)
    nodes_pb2_grpc.add_NodesServicer_to_server(agent, server)
    port = server.add_secure_port(f"{LOOPBACK}:0", credentials.server_credentials(settings.authkey))
    await server.start()
    told: list[tuple[str, bool, str]] = []
    fits = asyncio.Event()

    def on_status(_host: str, status: nodes_pb2.AgentStatus, is_first: bool) -> None:
        told.append((status.node, is_first, link.clock))
        if link.clock == CLOCK_FITS:
            fits.set()

    link = NodeLink(
        settings,
        LOOPBACK,
        f"{LOOPBACK}:{port}",
        Ear(on_status, lambda _host, _reason: None),
    )
    running = asyncio.ensure_future(link.run())
    await fits.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await server.stop(None)
    return told


def test_node_whose_clock_is_set_right_is_reported_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else sessions would leave it out until its connection breaks; nothing is said while it stays wrong."""
    monkeypatch.setattr(nodes, "CLOCK_LOOK_S", 0.05)

    told = loops.run(watch_clock(settings))

    assert told == [("watched", True, "3600 s behind"), ("watched", False, CLOCK_FITS)]


class LyingAgent(orders_pb2_grpc.OrdersServicer):
    """It tells what cannot be."""

    async def Watch(  # noqa: N802
        self, _request: orders_pb2.WatchRequest, _context: Any
    ) -> AsyncIterator[orders_pb2.WatchResponse]:
        """Say it, and stay: a time that no calendar has, and cores that no machine has."""
        status = nodes_pb2.AgentStatus(node="liar", core_count=-1)
        status.sent_time.seconds = 1 << 62
        yield orders_pb2.WatchResponse(status=status)
        await asyncio.Event().wait()


async def hear_lies(settings: Settings) -> str:
    """Why the agent counts as lost."""
    server = grpc.aio.server(options=grpc_channels.SERVER_OPTIONS)
    orders_pb2_grpc.add_OrdersServicer_to_server(LyingAgent(), server)
    port = server.add_secure_port(f"{LOOPBACK}:0", credentials.server_credentials(settings.authkey))
    await server.start()
    lost = asyncio.get_running_loop().create_future()
    link = NodeLink(
        dataclasses.replace(settings, node_timeout_s=0.5),
        LOOPBACK,
        f"{LOOPBACK}:{port}",
        Ear(
            lambda _host, status, _is_first: peer_input.check_report(status),
            lambda _host, reason: lost.done() or lost.set_result(reason),
        ),
    )
    running = asyncio.ensure_future(link.run())
    reason: str = await lost
    assert not link.is_reached
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await server.stop(None)
    return reason


def test_agent_that_tells_what_cannot_be_counts_as_lost(settings: Settings) -> None:
    """In words that say what it told; the broker goes on, and asks again."""
    reason = loops.run(hear_lies(settings))

    assert "the report of its agent" in reason
    assert "cannot be: it has -1 of 0 cores" in reason
