"""Drivers as processes of their nodes: finds out whether one whose stream broke comes back, and kills one.

A stream breaks when the driver has died or was stopped, or when its link is cut. The agent of the driver's
node knows which of them it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.broker.drivers.session import DriverSession, Events
from quakegrid.services.broker.drivers.stops import DriverStops
from quakegrid.services.broker.nodes.link import NodeLink

# A process that ends closes its connections a moment before it is gone.
ASK_EVERY_S = 0.05
ASK_LATER_S = 1.0
ASK_OFTEN_S = 2.0
# A driver that runs comes back within its patience with a broker (`Patience.broker_s` of its session), or
# never.
RUNNING_S = 75.0
# A driver that is stopped has lost the holds on its jobs by then.
STOPPED_S = 30.0

# If several nodes have the name of the driver's node, the answer of the node with the driver's process
# counts. A node that does not answer may have the process.
_BY_WEIGHT = (
    orders_pb2.PROCESS_STATE_RUNNING,
    orders_pb2.PROCESS_STATE_STOPPED,
    orders_pb2.PROCESS_STATE_UNSPECIFIED,
    orders_pb2.PROCESS_STATE_GONE,
)


def combine(states: Sequence[orders_pb2.ProcessState.ValueType]) -> orders_pb2.ProcessState.ValueType:
    """The state of a driver, from the answers of all nodes that it could be on."""
    return min(states, key=_BY_WEIGHT.index, default=orders_pb2.PROCESS_STATE_UNSPECIFIED)


async def await_end(
    session: DriverSession, events: Events, links: Callable[[], Sequence[NodeLink]], node_timeout_s: float
) -> str:
    """Wait until the driver is back or will not come; returns why not, or "" when it is back.

    Args:
        session: that lost its stream.
        events: of that stream.
        links: to the driver's node, as far as we know it.
        node_timeout_s: how long no node may know of the driver.
    """
    now_s = asyncio.get_running_loop().time
    start_s = known_s = now_s()
    while session.events is events and not session.ended.is_set():
        state = combine(
            await asyncio.gather(*(link.orders.find_process(session.request.pid) for link in links()))
        )
        if state == orders_pb2.PROCESS_STATE_GONE:
            return f"the driver on {session.where} ended before its calculation did"
        is_stopped = state == orders_pb2.PROCESS_STATE_STOPPED
        # A program without jobs that is stopped, for example by Ctrl-Z, keeps no job waiting.
        if is_stopped and not session.request.job_ids:
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


class DriverProcesses:
    """The processes of drivers, which the agents of their nodes know.

    Args:
        links_of: the links to the nodes that could be that of a session's driver.
        driver_stops: kills drivers.
        node_timeout_s: how long no node may know of a driver.
    """

    def __init__(
        self,
        links_of: Callable[[DriverSession], Sequence[NodeLink]],
        driver_stops: DriverStops,
        node_timeout_s: float,
    ) -> None:
        self._links_of, self._driver_stops, self._node_timeout_s = links_of, driver_stops, node_timeout_s

    async def await_end(self, session: DriverSession, events: Events) -> str:
        """Wait until a driver whose stream broke is back or will not come; see `await_end`."""
        return await await_end(session, events, lambda: self._links_of(session), self._node_timeout_s)

    def kill(self, session: DriverSession) -> None:
        """Kill the driver of a session, until its agent reports it no more."""
        self._driver_stops.stop(self._links_of(session), session.request.pid, session.principal.person)
