"""What becomes of a session whose driver's stream broke: the driver died, was stopped, or its link is cut.

Asks the agent of the driver's node; ends nothing itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from quakegrid.internal.v1 import orders_pb2
from services.broker.drivers.session import Events, Session
from services.broker.nodes.link import NodeLink

# A process closes its connections a moment before it is gone.
ASK_EVERY_S = 0.05
ASK_LATER_S = 1.0
ASK_OFTEN_S = 2.0
# A driver that runs is back within its patience with us (`Patience.broker_s` of its session), or never.
RUNNING_S = 75.0
# One that is stopped has lost its jobs' leases by then.
STOPPED_S = 30.0


# Where several nodes go by the name of the driver's: one that has its process is right, and one that does
# not answer may have it.
_BY_WEIGHT = (
    orders_pb2.PROCESS_STATE_RUNNING,
    orders_pb2.PROCESS_STATE_STOPPED,
    orders_pb2.PROCESS_STATE_UNSPECIFIED,
    orders_pb2.PROCESS_STATE_GONE,
)


def combine(states: Sequence[orders_pb2.ProcessState.ValueType]) -> orders_pb2.ProcessState.ValueType:
    """What a driver does, by the answers of all nodes that could be its own; unspecified if nobody knows."""
    return min(states, key=_BY_WEIGHT.index, default=orders_pb2.PROCESS_STATE_UNSPECIFIED)


async def await_end(
    session: Session, events: Events, links: Callable[[], Sequence[NodeLink]], node_timeout_s: float
) -> str:
    """Wait until the driver is back or will not come; returns why not, or "" when it is back.

    Args:
        session: that lost its stream.
        events: of that stream.
        links: to the driver's node, as far as we know it.
        node_timeout_s: how long nobody may know.
    """
    now_s = asyncio.get_running_loop().time
    start_s = known_s = now_s()
    while session.events is events and not session.ended.is_set():
        state = combine(await asyncio.gather(*(link.find_process(session.request.pid) for link in links())))
        if state == orders_pb2.PROCESS_STATE_GONE:
            return f"the driver on {session.where} ended before its calculation did"
        is_stopped = state == orders_pb2.PROCESS_STATE_STOPPED
        if is_stopped and not session.request.job_ids:  # Ctrl-Z holds up nobody else
            start_s = now_s()
        if state != orders_pb2.PROCESS_STATE_UNSPECIFIED:
            known_s = now_s()
        if now_s() - known_s > node_timeout_s:
            return f"the driver on {session.where} was out of reach for {node_timeout_s:g} s"
        limit_s = STOPPED_S if is_stopped else RUNNING_S
        if now_s() - start_s > limit_s:
            return f"the driver on {session.where} did not come back within {limit_s:g} s"
        await asyncio.sleep(ASK_EVERY_S if now_s() - start_s < ASK_OFTEN_S else ASK_LATER_S)
    return ""
