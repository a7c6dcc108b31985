"""The calls of people for one node: serve, stop, restart, join and leave a fleet, and read the agent's log.

Uses the agent's service; the agent decides what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.clients import connection
from quakegrid.settings.config import Settings

CALL_TIMEOUT_S = 10.0
# Enough for the agent to ask the master meanwhile.
JOIN_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Joined:
    """The broker's name of the node; `is_configured` if the broker's `host_cores` names the node already."""

    host: str
    is_configured: bool


class NodeControl:
    """Asks one agent, with the errors of a `Connection`; each method may raise PeerUnreachableError."""

    def __init__(self, settings: Settings, host: str) -> None:
        self._connection = connection.to_agent(settings, host, CALL_TIMEOUT_S)
        self._stub = nodes_pb2_grpc.NodesStub(self._connection.channel)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def start(self, core_count: int) -> bool:
        """Serve so many cores, -1 for all, 0 for as many as before; returns whether the node served already.

        Raises:
            UsageError: the node has fewer cores.
        """
        request = nodes_pb2.StartServingRequest(core_count=core_count)
        return self._connection.call(self._stub.StartServing, request).was_serving

    def stop(self, *, is_forced: bool) -> bool:
        """Stop the node: workers end after their task, or now if forced. Returns whether the node served."""
        request = nodes_pb2.StopServingRequest(force=is_forced)
        return self._connection.call(self._stub.StopServing, request).was_serving

    def restart(self, *, is_forced: bool) -> int:
        """Begin a restart of workers and template; returns how many drivers keep the old template."""
        request = nodes_pb2.RestartServingRequest(force=is_forced)
        return self._connection.call(self._stub.RestartServing, request).driver_count

    def join(self, master: str) -> Joined:
        """Make the node a member of a master's fleet.

        Raises:
            StateError: the node is a member of another fleet, or the master cannot reach it.
        """
        request = nodes_pb2.JoinRequest(master=master)
        joined = self._connection.call(self._stub.Join, request, JOIN_TIMEOUT_S)
        return Joined(joined.host, joined.is_configured)

    def leave(self, on_wait: Callable[[], None], *, is_forced: bool) -> str:
        """Leave the fleet, as soon as the workers have ended; returns the master's address.

        Args:
            on_wait: called again and again meanwhile. The node leaves also if that raises.
            is_forced: forget the master without asking it.
        Raises:
            StateError: the node joined no fleet.
        """
        request = nodes_pb2.LeaveRequest(force=is_forced)
        return self._connection.call_while(self._stub.Leave, request, on_wait).master

    def tail_log(self, line_count: int, *, follow: bool) -> Iterator[str]:
        """The agent's last log lines, then, if asked, new ones for ever."""
        request = nodes_pb2.TailNodeLogRequest(line_count=line_count, follow=follow)
        for response in self._connection.stream(self._stub.TailNodeLog, request):
            yield from response.lines
