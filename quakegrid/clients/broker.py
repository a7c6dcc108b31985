"""The fleet as the broker tells it: value types and a client.

Knows the broker's gRPC service; the fleet's decisions are the broker's own.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self, TypeVar

import grpc

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.api.v1.task_records_pb2 import TaskRecordBlock
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels

T = TypeVar("T")

CALL_TIMEOUT_S = 10.0
# An abort answers when the job's processes are gone, which may take a kill.
ABORT_TIMEOUT_S = 60.0
# Tens of megabytes, read from a disk.
RECORDS_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A session that gets no worker on a node, and how that differs from what the session asked for."""

    session_id: int
    job_ids: tuple[int, ...]
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One machine of the fleet; `state` tells of its template, or why the node is not up."""

    host: str
    node: str
    is_up: bool
    core_count: int
    worker_count: int
    running_count: int
    state: str
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """What one driver runs: its jobs, its workers and the counts of its tasks."""

    session_id: int
    job_ids: tuple[int, ...]
    user_name: str
    state: str
    host: str
    pid: int
    lane_port: int
    worker_count: int
    queued_count: int
    running_count: int
    done_count: int
    requeued_count: int
    failed_count: int
    done_rate_hz: float
    weight: float
    busy_worker_count: int
    argument_bytes: int
    result_bytes: int


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """One lane: its port, its process, how many sessions live on it and their tasks.

    `state` is "starting", "open", "pausing" (to be started again) or "refused"; `error` tells why a port is
    refused.
    """

    port: int
    pid: int
    session_count: int
    task_count: int
    state: str
    error: str


@dataclass(frozen=True, slots=True)
class TaskTotals:
    """Sessions and tasks since the start of the broker."""

    session_count: int = 0
    done_count: int = 0
    requeued_count: int = 0
    failed_count: int = 0
    argument_bytes: int = 0
    result_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """All that the broker knows at one moment."""

    nodes: tuple[NodeStatus, ...]
    sessions: tuple[SessionStatus, ...]
    lanes: tuple[LaneStatus, ...]
    totals: TaskTotals
    version: str


class BrokerClient:
    """Calls of the broker that command lines make; every failure is one of our errors."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.broker_address
        self._channel = grpc_channels.open_channel(self._address, settings.authkey)
        self._stub = fleet_pb2_grpc.FleetStub(self._channel)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def channel(self) -> grpc.Channel:
        """The connection, for stubs of the broker's other services."""
        return self._channel

    def status(self) -> FleetStatus:
        """Ask for nodes, sessions and lanes.

        Raises:
            PeerUnreachableError: the broker does not answer.
        """
        request = fleet_pb2.GetStatusRequest()
        response = self._call(lambda: self._stub.GetStatus(request, timeout=CALL_TIMEOUT_S))
        return _fleet(response)

    def watch_status(self) -> Iterator[FleetStatus]:
        """The status now and whenever it changed, until the broker stops.

        Raises:
            PeerUnreachableError: the broker does not answer, or is gone.
        """
        stream = self._stub.WatchStatus(fleet_pb2.WatchStatusRequest())
        try:
            for response in stream:
                yield _fleet(response.status)
        except grpc.RpcError as exc:
            raise grpc_channels.translate(exc, "broker", self._address) from None
        finally:
            stream.cancel()  # type: ignore[no-untyped-call]

    def metrics(self) -> str:
        """The broker's metrics in Prometheus' text format.

        Raises:
            PeerUnreachableError: the broker does not answer.
        """
        request = fleet_pb2.GetMetricsRequest()
        return self._call(lambda: self._stub.GetMetrics(request, timeout=CALL_TIMEOUT_S)).text

    def wait_for_nodes(self, timeout_s: float) -> tuple[NodeStatus, ...]:
        """Wait until at least one node can start workers, and return all nodes.

        Raises:
            PeerUnreachableError: none came up in time, or the broker does not answer.
        """
        request = fleet_pb2.WaitForNodesRequest()
        try:
            response = self._stub.WaitForNodes(request, timeout=timeout_s)
        except grpc.RpcError as exc:
            if exc.code() in grpc_channels.OUT_OF_TIME:
                states = "; ".join(
                    f"{node.host}: {node.state or 'not reached'}" for node in self.status().nodes
                )
                raise errors.PeerUnreachableError(
                    f"no node came up in {timeout_s:.0f} s ({states or 'the fleet has none'}); "
                    "`quakegrid workers start` lets stopped ones serve"
                ) from None
            raise grpc_channels.translate(exc, "broker", self._address) from None
        return tuple(_node(node) for node in response.nodes)

    def abort_job(self, job_id: int) -> bool:
        """Abort a job wherever it runs; False when no session of it was open.

        Raises:
            PeerUnreachableError: the broker does not answer.
            NotFoundError: there is no such job.
        """
        request = fleet_pb2.AbortJobRequest(job_id=job_id, user_name=getpass.getuser())
        return self._call(lambda: self._stub.AbortJob(request, timeout=ABORT_TIMEOUT_S)).was_running

    def task_records(self, number: int) -> Iterator[TaskRecordBlock]:
        """What became of the tasks of a job, or of a session.

        Raises:
            PeerUnreachableError: the broker does not answer.
            NotFoundError: it has no records.
        """
        request = fleet_pb2.GetTaskRecordsRequest(id=number)
        try:
            for response in self._stub.GetTaskRecords(request, timeout=RECORDS_TIMEOUT_S):
                yield from response.blocks
        except grpc.RpcError as exc:
            raise grpc_channels.translate(exc, "broker", self._address) from None

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except grpc.RpcError as exc:
            raise grpc_channels.translate(exc, "broker", self._address) from None


def _fleet(status: fleet_pb2.GetStatusResponse) -> FleetStatus:
    totals = status.totals
    return FleetStatus(
        nodes=tuple(_node(node) for node in status.nodes),
        sessions=tuple(_session(session) for session in status.sessions),
        lanes=tuple(_lane(lane) for lane in status.lanes),
        totals=TaskTotals(
            session_count=totals.session_count,
            done_count=totals.done_count,
            requeued_count=totals.requeued_count,
            failed_count=totals.failed_count,
            argument_bytes=totals.argument_bytes,
            result_bytes=totals.result_bytes,
        ),
        version=status.version,
    )


def _lane(lane: fleet_pb2.LaneStatus) -> LaneStatus:
    return LaneStatus(
        port=lane.port,
        pid=lane.pid,
        session_count=lane.session_count,
        task_count=lane.task_count,
        state=lane.state,
        error=lane.error,
    )


def _node(node: fleet_pb2.NodeStatus) -> NodeStatus:
    return NodeStatus(
        host=node.host,
        node=node.node,
        is_up=node.is_up,
        core_count=node.core_count,
        worker_count=node.worker_count,
        running_count=node.running_count,
        state=node.state,
        left_out=tuple(
            LeftOut(each.session_id, tuple(each.job_ids), tuple(each.differences)) for each in node.left_out
        ),
    )


def _session(session: fleet_pb2.SessionStatus) -> SessionStatus:
    return SessionStatus(
        session_id=session.session_id,
        job_ids=tuple(session.job_ids),
        user_name=session.user_name,
        state=session.state,
        host=session.host,
        pid=session.pid,
        lane_port=session.lane_port,
        worker_count=session.worker_count,
        queued_count=session.queued_count,
        running_count=session.running_count,
        done_count=session.done_count,
        requeued_count=session.requeued_count,
        failed_count=session.failed_count,
        done_rate_hz=round(session.done_rate_hz, 2),
        weight=session.weight,
        busy_worker_count=session.busy_worker_count,
        argument_bytes=session.argument_bytes,
        result_bytes=session.result_bytes,
    )
