"""What those who watch an agent get: its changes, and something each second in any case."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from quakegrid.api.v1 import nodes_pb2
from quakegrid.clients import agent as agents
from quakegrid.internal.v1 import orders_pb2
from services.agent.node.agent import Agent
from services.agent.node.limits.limits import SAMPLE_S
from services.agent.node.watchers import LAST_WORD, Changes


async def beating(changes: Changes) -> AsyncIterator[orders_pb2.WatchResponse]:
    """Yield what comes in `changes`, and an empty message in each second without one."""
    message = orders_pb2.WatchResponse()
    while message is not LAST_WORD:
        try:
            message = await asyncio.wait_for(changes.get(), agents.BEAT_S)
        except TimeoutError:
            message = orders_pb2.WatchResponse()
        yield message


async def sampled(agent: Agent, changes: Changes) -> AsyncIterator[orders_pb2.WatchResponse]:
    """Yield what comes in `changes`, statuses with samples, and a status in each second without a change."""
    message = orders_pb2.WatchResponse()
    while message is not LAST_WORD:
        try:
            message = await asyncio.wait_for(changes.get(), SAMPLE_S)
        except TimeoutError:
            message = orders_pb2.WatchResponse(status=nodes_pb2.AgentStatus())
        if message.HasField("status"):
            message = orders_pb2.WatchResponse(status=agent.status(with_samples=True))
        yield message
