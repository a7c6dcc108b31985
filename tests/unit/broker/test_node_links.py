"""The broker's link to an agent: what an agent may answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from quakegrid import testing
from quakegrid.api.v1 import nodes_pb2
from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.broker.drivers import absence
from quakegrid.services.broker.nodes.link import NodeLink
from quakegrid.services.broker.nodes.orders import AgentOrders, WorkerNeeds
from quakegrid.settings import config

GONE = orders_pb2.GetProcessResponse(state=orders_pb2.PROCESS_STATE_GONE).SerializeToString()


@pytest.mark.parametrize(
    ("packet", "state"),
    [
        (b"", orders_pb2.PROCESS_STATE_UNSPECIFIED),
        (GONE, orders_pb2.PROCESS_STATE_GONE),
        (b"\x08\x63", orders_pb2.PROCESS_STATE_UNSPECIFIED),
    ],
    ids=["unspecified", "gone", "99"],
)
def test_state_that_a_later_agent_knows_is_not_known(
    packet: bytes, state: orders_pb2.ProcessState.ValueType
) -> None:
    """Whoever compares states has one of its own."""

    class AnsweringOrders(AgentOrders):
        """Its agent answers with a packet."""

        async def _order(self, call: Any) -> Any:
            assert callable(call)
            return orders_pb2.GetProcessResponse.FromString(packet)

    orders = AnsweringOrders("n0", "a key of sixteen", 1.0)

    found = asyncio.run(orders.find_process(7))

    assert found == state
    assert absence.combine([found]) == state


class PlayedChannel:
    """A connection to an agent that does what it is ordered, and tells what a test lets it tell."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[orders_pb2.WatchResponse] = asyncio.Queue()

    def unary_unary(self, *_method: str, **_codec: Any) -> Callable[..., Any]:
        """Start one worker."""

        async def start(_request: object, **_options: float) -> orders_pb2.StartWorkersResponse:
            started = orders_pb2.StartedWorker(worker_id="w-1")
            return orders_pb2.StartWorkersResponse(started=[started])

        return start

    def unary_stream(self, *_method: str, **_codec: Any) -> Callable[..., AsyncIterator[Any]]:
        """Tell what there is to tell."""

        async def watch(_request: object) -> AsyncIterator[orders_pb2.WatchResponse]:
            while True:
                yield await self.told.get()

        return watch

    async def close(self, _grace: float | None = None) -> None:
        """Nothing is open."""


class Ear:
    """Hears an agent."""

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()

    def on_status(self, _host: str, _status: nodes_pb2.AgentStatus, is_first: bool) -> None:
        """The agent told what it has."""
        assert is_first
        self.is_reached.set()


async def order_early_and_late(settings: config.Settings) -> list[list[str] | None]:
    """The workers that were started before the agent was heard, and after that."""
    channel, ear = PlayedChannel(), Ear()
    needs = WorkerNeeds("tcp://127.0.0.1:1")
    played: Any = channel
    heard: Any = ear
    link = NodeLink(settings, "n1", "n1:1", heard, open_channel=lambda *_where: played)
    running = asyncio.ensure_future(link.run())
    await asyncio.sleep(0)
    found = [await link.orders.start_workers(1, ["w-1"], needs)]
    channel.told.put_nowait(orders_pb2.WatchResponse(status=nodes_pb2.AgentStatus(node="n1")))
    await ear.is_reached.wait()
    found.append(await link.orders.start_workers(1, ["w-1"], needs))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return found


def test_agent_is_ordered_nothing_before_its_first_report(tmp_path: Path) -> None:
    """The report may be older than the order: workers that were just started would count as lost."""
    testing.write_cluster_config(tmp_path)
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))

    assert asyncio.run(order_early_and_late(settings)) == [[], ["w-1"]]
