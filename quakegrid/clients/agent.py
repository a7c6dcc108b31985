"""The status of a node's agent: value types and a client.

Has the calls that people make. Only the broker orders workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from quakegrid.api.v1 import nodes_pb2, nodes_pb2_grpc
from quakegrid.clients import connection
from quakegrid.internal.v1 import orders_pb2, orders_pb2_grpc
from quakegrid.machine import service_files
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.settings.config import LOOPBACK, Settings

CALL_TIMEOUT_S = 10.0
TEMPLATE_KINDS = {
    TemplateKind.LOADING: nodes_pb2.TEMPLATE_KIND_LOADING,
    TemplateKind.WARM: nodes_pb2.TEMPLATE_KIND_WARM,
    TemplateKind.COLD: nodes_pb2.TEMPLATE_KIND_COLD,
    TemplateKind.FAILED: nodes_pb2.TEMPLATE_KIND_FAILED,
}
# How a node shows that it belongs to the cluster, in a word.
PROOFS = {
    nodes_pb2.NODE_PROOF_KIND_AUTHKEY: "authkey",
    nodes_pb2.NODE_PROOF_KIND_CERTIFICATE: "certificate",
}
_KINDS = {value: kind for kind, value in TEMPLATE_KINDS.items()}
# How often an agent sends a message to its watchers if nothing happens.
BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process, the cores that it is pinned to, and the memory of it and its children."""

    worker_id: str
    session_id: int
    pid: int
    core: int
    cores: tuple[int, ...]
    resident_bytes: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class DriverStatus:
    """One driver process and the command line that it runs; detached ones go on without that."""

    pid: int
    command: str
    is_detached: bool = False


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One agent; `is_refreshing`: a template with newer code is loading and will take over.

    `core_count` of `all_core_count` cores are served. A node that is short of memory goes on with one worker.
    `service` is "serving", "stopped", "restarting" or "leaving". `master` is the broker that it joined,
    empty if it joined none. `is_watched` says whether a broker watches the node.
    """

    node: str
    core_count: int
    template_state: TemplateState
    is_refreshing: bool
    fingerprint: Mapping[str, str]
    workers: tuple[WorkerStatus, ...]
    drivers: tuple[DriverStatus, ...]
    version: str
    engine_version: str
    all_core_count: int
    cores_per_worker: int
    is_short_of_memory: bool
    memory_used_bytes: int
    memory_total_bytes: int
    load_average: float
    service: str
    master: str
    is_watched: bool
    # "certificate" or "authkey"; empty for an older agent.
    proof: str = ""
    # Of the agent's process.
    instance_id: str = ""


class AgentClient:
    """Asks one agent, with the errors of a `Connection`."""

    def __init__(self, settings: Settings, host: str = LOOPBACK) -> None:
        self._connection = connection.to_agent(settings, host, CALL_TIMEOUT_S)
        self._stub = nodes_pb2_grpc.NodesStub(self._connection.channel)
        self._orders = orders_pb2_grpc.OrdersStub(self._connection.channel)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def status(self) -> AgentStatus:
        """Ask for the template's state, the workers and the drivers.

        Raises:
            PeerUnreachableError: the agent does not answer.
        """
        request = nodes_pb2.GetAgentStatusRequest()
        return read_status(self._connection.call(self._stub.GetStatus, request).status)

    def set_cores(self, core_count: int) -> tuple[int, int]:
        """Let the node give so many cores, -1 for all; returns how many it gives now, and how many it has.

        Raises:
            PeerUnreachableError: the agent does not answer.
            UsageError: the node has fewer cores.
        """
        request = nodes_pb2.SetCoresRequest(core_count=core_count)
        response = self._connection.call(self._stub.SetCores, request)
        return response.core_count, response.all_core_count

    def watch_status(self) -> Iterator[AgentStatus]:
        """The status with samples, at each change and every second, until the agent stops.

        Raises:
            PeerUnreachableError: the agent does not answer, or is gone.
        """
        request = orders_pb2.WatchRequest(with_samples=True)
        for response in self._connection.stream(self._orders.Watch, request):
            if response.HasField("status"):
                yield read_status(response.status)


def local_client(settings: Settings) -> AgentClient:
    """A client of this machine's own agent, at the port where it listens."""
    return AgentClient(local_settings(settings), local_host(settings))


def local_settings(settings: Settings) -> Settings:
    """The settings with the port where this machine's agent listens, if it runs."""
    record = service_files.read(settings, "agent")
    return replace(settings, agent_port=int(record.address.rpartition(":")[2])) if record else settings


def local_host(settings: Settings) -> str:
    """The host at which this machine's own agent answers."""
    return LOOPBACK if settings.agent_listen in ("", "0.0.0.0", "::") else settings.agent_listen  # noqa: S104


def template_state(status: nodes_pb2.AgentStatus) -> TemplateState:
    """The state of a node's template. An unknown state counts as loading."""
    kind = _KINDS.get(status.template_kind, TemplateKind.LOADING)
    return TemplateState(kind, status.template_reason)


def read_status(status: nodes_pb2.AgentStatus) -> AgentStatus:
    """A status as it came from an agent."""
    service = nodes_pb2.ServiceState.Name(status.service_state).removeprefix("SERVICE_STATE_").lower()
    return AgentStatus(
        node=status.node,
        core_count=status.core_count,
        template_state=template_state(status),
        is_refreshing=status.is_refreshing,
        fingerprint=dict(sorted(status.fingerprint.items())),
        workers=tuple(
            WorkerStatus(
                worker.worker_id,
                worker.session_id,
                worker.pid,
                worker.core,
                tuple(worker.cores),
                worker.resident_bytes,
                worker.cpu_s,
            )
            for worker in status.workers
        ),
        drivers=tuple(
            DriverStatus(driver.pid, driver.command, driver.is_detached) for driver in status.drivers
        ),
        version=status.version,
        engine_version=status.engine_version,
        all_core_count=status.all_core_count,
        cores_per_worker=status.cores_per_worker,
        is_short_of_memory=status.is_short_of_memory,
        memory_used_bytes=status.memory_used_bytes,
        memory_total_bytes=status.memory_total_bytes,
        load_average=status.load_average,
        service="leaving" if status.is_leaving else service,
        master=status.master,
        is_watched=status.is_watched,
        proof=PROOFS.get(status.proof_kind, ""),
        instance_id=status.instance_id,
    )
