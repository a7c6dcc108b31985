"""A node's agent as it tells of itself: value types and a client.

Knows the agent's gRPC service as far as people ask for it; workers are the broker's to order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import grpc

from quakegrid import rpc
from quakegrid.api.v1 import agent_pb2, agent_pb2_grpc
from quakegrid.config import LOOPBACK, Settings
from quakegrid.template_state import TemplateKind, TemplateState

CALL_TIMEOUT_S = 10.0
TEMPLATE_KINDS = {
    TemplateKind.LOADING: agent_pb2.TEMPLATE_KIND_LOADING,
    TemplateKind.WARM: agent_pb2.TEMPLATE_KIND_WARM,
    TemplateKind.COLD: agent_pb2.TEMPLATE_KIND_COLD,
    TemplateKind.FAILED: agent_pb2.TEMPLATE_KIND_FAILED,
}
_KINDS = {value: kind for kind, value in TEMPLATE_KINDS.items()}


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
    """One agent; `is_refreshing`: a template with newer code is loading and will take over."""

    node: str
    core_count: int
    template_state: TemplateState
    is_refreshing: bool
    fingerprint: Mapping[str, str]
    workers: tuple[WorkerStatus, ...]
    drivers: tuple[DriverStatus, ...]
    version: str
    engine_version: str


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
        return _agent(response.status)

    def watch(self) -> Iterator[AgentStatus]:
        """The status now and at each change.

        Raises:
            PeerUnreachableError: the agent does not answer, or is gone.
        """
        stream = self._stub.Watch(agent_pb2.WatchRequest())
        try:
            for response in stream:
                if response.HasField("status"):
                    yield _agent(response.status)
        except grpc.RpcError as exc:
            raise rpc.translate(exc, "agent", self._address) from None
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]


def template_state(status: agent_pb2.AgentStatus) -> TemplateState:
    """The state of a node's template; one that says nothing that we know is no more than loading."""
    kind = _KINDS.get(status.template_kind, TemplateKind.LOADING)
    return TemplateState(kind, status.template_reason)


def _agent(status: agent_pb2.AgentStatus) -> AgentStatus:
    return AgentStatus(
        node=status.node,
        core_count=status.core_count,
        template_state=template_state(status),
        is_refreshing=status.is_refreshing,
        fingerprint=dict(sorted(status.fingerprint.items())),
        workers=tuple(
            WorkerStatus(worker.worker_id, worker.session_id, worker.pid, worker.core)
            for worker in status.workers
        ),
        drivers=tuple(DriverStatus(driver.pid, driver.command) for driver in status.drivers),
        version=status.version,
        engine_version=status.engine_version,
    )
