"""The watch stream for who asked for samples: what changes, and the status every second, with samples."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from quakegrid.api.v1 import agent_pb2
from services.agent.agent import Agent
from services.agent.node_limits import SAMPLE_S


async def sampled(
    agent: Agent, changes: asyncio.Queue[agent_pb2.WatchResponse]
) -> AsyncIterator[agent_pb2.WatchResponse]:
    """Yield what comes in `changes`, and a status in each second without a change."""
    while True:
        try:
            message = await asyncio.wait_for(changes.get(), SAMPLE_S)
        except TimeoutError:
            message = agent_pb2.WatchResponse(status=agent_pb2.AgentStatus())
        if message.HasField("status"):
            message = agent_pb2.WatchResponse(status=agent.status(with_samples=True))
        yield message
