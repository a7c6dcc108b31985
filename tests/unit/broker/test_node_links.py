"""The broker's link to an agent: what an agent may answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from quakegrid import testing
from quakegrid.internal.v1 import orders_pb2
from quakegrid.settings import config
from services.broker.drivers import absence
from services.broker.nodes.link import NodeLink


def void(*_told: object) -> None:
    """Nobody listens."""


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
    packet: bytes, state: orders_pb2.ProcessState.ValueType, tmp_path: Path
) -> None:
    """Whoever compares states has one of its own."""
    path = testing.write_cluster_config(tmp_path / "state")
    settings = config.load_settings(path.parent, {"OQ_CONFIG_FILE": str(path)})

    class AnsweringLink(NodeLink):
        """Its agent answers with a packet."""

        async def _order(self, call: Any) -> Any:
            assert callable(call)
            return orders_pb2.GetProcessResponse.FromString(packet)

    link = AnsweringLink(settings, "n0", "n0:1", on_status=void, on_exit=void, on_output=void, on_lost=void)

    found = asyncio.run(link.find_process(7))

    assert found == state
    assert absence.combine([found]) == state
