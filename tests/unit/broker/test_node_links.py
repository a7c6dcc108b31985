"""The broker's link to an agent: what an agent may answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.broker.drivers import absence
from quakegrid.services.broker.nodes.orders import AgentOrders

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
