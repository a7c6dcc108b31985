"""A node's agent as it tells of itself: value types and a client.

Knows the agent's gRPC service as far as people ask for it; workers are the broker's to order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from quakegrid import rpc
from quakegrid.api.v1 import agent_pb2, agent_pb2_grpc
from quakegrid.config import LOOPBACK, Settings

CALL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process and the core that it is pinned to."""

    worker_id: str
    session_id: int
    pid: int
    core: int


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """One driver process and the command line that it runs."""

    pid: int
    command: str


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One agent; `template_state` is "loading", "warm[, without the engine: reason]" or "failed: reason".

    `service` is "serving", "stopped", "restarting" or "leaving"; `core_count` of `total_core_count` cores
    are served. `master` is the broker that it joined, empty if it did not; `is_watched` whether any watches.
    """

    node: str
    core_count: int
    template_state: str
    workers: tuple[WorkerStatus, ...]
    drivers: tuple[DriverStatus, ...]
    version: str
    engine_version: str
    service: str
    total_core_count: int
    master: str
    is_watched: bool


class AgentClient:
    """Asks one agent; every failure is one of our errors."""

    def __init__(self, settings: Settings, host: str = LOOPBACK) -> None:
        self._address = f"{host}:{settings.agent_port}"
        self._channel = rpc.open_channel(self._address, settings.authkey)
        self._stub = agent_pb2_grpc.AgentStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self) -> AgentStatus:
        """Ask for the template's state, the workers and the drivers.

        Raises:
            PeerUnreachableError: the agent does not answer.
        """
        try:
            response = self._stub.GetStatus(agent_pb2.GetAgentStatusRequest(), timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as exc:
            raise rpc.translate(exc, "agent", self._address) from None
        return _status(response.status)

    def watch_status(self) -> Iterator[AgentStatus]:
        """The status now and whenever it changed, until the agent stops.

        Raises:
            PeerUnreachableError: the agent does not answer, or is gone.
        """
        stream = self._stub.Watch(agent_pb2.WatchRequest())
        try:
            for response in stream:
                if response.HasField("status"):
                    yield _status(response.status)
        except grpc.RpcError as exc:
            raise rpc.translate(exc, "agent", self._address) from None
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]


def local_host(settings: Settings) -> str:
    """Where this machine's own agent answers."""
    return LOOPBACK if settings.agent_listen in ("", "0.0.0.0", "::") else settings.agent_listen  # noqa: S104


def _status(status: agent_pb2.AgentStatus) -> AgentStatus:
    service = agent_pb2.ServiceState.Name(status.service_state).removeprefix("SERVICE_STATE_").lower()
    return AgentStatus(
        node=status.node,
        core_count=status.core_count,
        template_state=status.template_state,
        workers=tuple(
            WorkerStatus(worker.worker_id, worker.session_id, worker.pid, worker.core)
            for worker in status.workers
        ),
        drivers=tuple(DriverStatus(driver.pid, driver.command) for driver in status.drivers),
        version=status.version,
        engine_version=status.engine_version,
        service="leaving" if status.is_leaving else service,
        total_core_count=status.total_core_count,
        master=status.master,
        is_watched=status.is_watched,
    )
