"""What a person asks of one node: serve, stop, restart, join and leave a fleet, and its agent's log.

Knows the agent's NodeControl service; the agent decides how to get there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import grpc

from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels

T = TypeVar("T")

CALL_TIMEOUT_S = 10.0
# The agent asks the master meanwhile.
JOIN_TIMEOUT_S = 30.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Joined:
    """What the broker calls the node; `is_configured` if its `host_cores` has the node anyway."""

    host: str
    is_configured: bool


class NodeControl:
    """Asks one agent; every failure is one of our errors, and each method may raise PeerUnreachableError."""

    def __init__(self, settings: Settings, host: str) -> None:
        self._address = f"{host}:{settings.agent_port}"
        self._channel = grpc_channels.open_channel(self._address, settings.authkey)
        self._stub = nodes_pb2_grpc.NodesStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def start(self, core_count: int) -> bool:
        """Serve so many cores, -1 for all, 0 for as many as before; whether the node served already.

        Raises:
            UsageError: the node has fewer cores.
        """
        request = nodes_pb2.StartServingRequest(core_count=core_count)
        return self._call(lambda: self._stub.StartServing(request, timeout=CALL_TIMEOUT_S)).was_serving

    def stop(self, *, is_forced: bool) -> bool:
        """Start no workers; those that run end after their task, or at once. Whether the node served."""
        request = nodes_pb2.StopServingRequest(force=is_forced)
        return self._call(lambda: self._stub.StopServing(request, timeout=CALL_TIMEOUT_S)).was_serving

    def restart(self, *, is_forced: bool) -> int:
        """Begin a restart of workers and template; returns how many drivers keep the old template."""
        request = nodes_pb2.RestartServingRequest(force=is_forced)
        return self._call(lambda: self._stub.RestartServing(request, timeout=CALL_TIMEOUT_S)).driver_count

    def join(self, master: str) -> Joined:
        """Make the node a member of a master's fleet.

        Raises:
            StateError: it is a member of another, or the master cannot reach it.
        """
        request = nodes_pb2.JoinRequest(master=master)
        joined = self._call(lambda: self._stub.Join(request, timeout=JOIN_TIMEOUT_S))
        return Joined(joined.host, joined.is_configured)

    def leave(self, on_wait: Callable[[], None], *, is_forced: bool) -> str:
        """Leave the fleet, as soon as the workers have ended; returns the master's address.

        Args:
            on_wait: called again and again meanwhile. The node leaves also if that raises.
            is_forced: forget the master without asking it.
        Raises:
            StateError: the node joined none.
        """
        future = self._stub.Leave.future(nodes_pb2.LeaveRequest(force=is_forced))
        try:
            while True:
                try:
                    return self._call(lambda: future.result(timeout=POLL_S)).master
                except grpc.FutureTimeoutError:
                    on_wait()
        finally:
            future.cancel()  # type: ignore[no-untyped-call]

    def tail_log(self, line_count: int, *, follow: bool) -> Iterator[str]:
        """The agent's last log lines, then, if asked, new ones for ever."""
        stream = self._stub.TailNodeLog(nodes_pb2.TailNodeLogRequest(line_count=line_count, follow=follow))
        try:
            for response in stream:
                yield from response.lines
        except grpc.RpcError as exc:
            raise grpc_channels.translate(exc, "agent", self._address) from None
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except grpc.RpcError as exc:
            raise grpc_channels.translate(exc, "agent", self._address) from None
