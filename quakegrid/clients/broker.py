"""The status of the fleet: value types, and a client of the broker.

Decides nothing; the broker decides for the fleet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2, fleet_pb2_grpc
from quakegrid.api.v1.task_records_pb2 import TaskRecordBlock
from quakegrid.clients import agent, connection
from quakegrid.settings.config import Settings

CALL_TIMEOUT_S = 10.0
# An abort is answered when the job's processes are gone, which may need a kill.
ABORT_TIMEOUT_S = 60.0
# The broker reads tens of megabytes from a disk.
RECORDS_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A session that gets no worker on a node, and how that differs from what the session asked for."""

    session_id: int
    job_ids: tuple[int, ...]
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One machine of the fleet; `state` tells of its template, or why the node is not up.

    `proof` is "certificate" or "authkey", by which the node shows that it belongs to the cluster; empty while
    it is not known. `address` is `host:port` of its agent.
    """

    host: str
    node: str
    is_up: bool
    core_count: int
    worker_count: int
    running_count: int
    state: str
    left_out: tuple[LeftOut, ...] = ()
    proof: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How far an operation is: its tasks, those that are done, and those among them from a journal."""

    job_id: int
    operation: str
    done_count: int
    total_count: int
    replayed_count: int = 0


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """The session of one driver: its jobs, its workers and the counts of its tasks."""

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
    core_count: int = 0
    # While it is queued: the jobs before it, and why it waits, if not for its turn behind them.
    ahead_job_ids: tuple[int, ...] = ()
    wait_reason: str = ""
    # Seconds that it executes without having submitted a task; 0 when it has.
    unused_s: int = 0
    # In the order in which they began; empty for a driver that tells of none.
    stages: tuple[StageStatus, ...] = ()


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
    """The whole status of the broker at one moment.

    `serialize_jobs`, `max_jobs_per_user` and `max_cores_per_user` are the broker's settings, 0 for no limit.
    """

    nodes: tuple[NodeStatus, ...]
    sessions: tuple[SessionStatus, ...]
    lanes: tuple[LaneStatus, ...]
    totals: TaskTotals
    version: str
    serialize_jobs: int = 0
    max_jobs_per_user: int = 0
    max_cores_per_user: int = 0


class BrokerClient:
    """Calls of the broker that command lines make, with the errors of a `Connection`."""

    def __init__(self, settings: Settings) -> None:
        self.connection = connection.to_broker(settings, CALL_TIMEOUT_S)
        self._stub = fleet_pb2_grpc.FleetStub(self.connection.channel)
        self._settings = settings

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def status(self) -> FleetStatus:
        """Ask for nodes, sessions and lanes.

        Raises:
            PeerUnreachableError: the broker does not answer.
        """
        return read_fleet(self.connection.call(self._stub.GetStatus, fleet_pb2.GetStatusRequest()))

    def watch_status(self) -> Iterator[FleetStatus]:
        """The status now and whenever it changed, until the broker stops.

        Raises:
            PeerUnreachableError: the broker does not answer, or is gone.
        """
        for response in self.connection.stream(self._stub.WatchStatus, fleet_pb2.WatchStatusRequest()):
            yield read_fleet(response.status)

    def metrics(self) -> str:
        """The broker's metrics in Prometheus' text format.

        Raises:
            PeerUnreachableError: the broker does not answer.
        """
        return self.connection.call(self._stub.GetMetrics, fleet_pb2.GetMetricsRequest()).text

    def wait_for_nodes(self, timeout_s: float) -> tuple[NodeStatus, ...]:
        """Wait until at least one node can start workers, and return all nodes.

        Raises:
            PeerUnreachableError: no node came up in time, or the broker does not answer.
        """
        request = fleet_pb2.WaitForNodesRequest()
        try:
            response = self.connection.call(self._stub.WaitForNodes, request, timeout_s)
        except errors.PeerUnreachableError as exc:
            if not connection.is_out_of_time(exc):
                raise
            states = "; ".join(f"{node.host}: {node.state or 'not reached'}" for node in self.status().nodes)
            raise errors.PeerUnreachableError(
                f"no node came up in {timeout_s:.0f} s ({states or 'the fleet has none'}); "
                "`quakegrid workers start` lets stopped ones serve"
            ) from None
        return tuple(_node(node) for node in response.nodes)

    def abort_job(self, job_id: int) -> bool:
        """Abort a job wherever it runs; returns False if no session of it was open.

        Args:
            job_id: of the job, or of a session.
        Raises:
            PeerUnreachableError: the broker does not answer.
            NotFoundError: there is no such job.
        """
        request = fleet_pb2.AbortJobRequest(job_id=job_id, user_name=self._settings.user_name)
        return self.connection.call(self._stub.AbortJob, request, ABORT_TIMEOUT_S).was_running

    def end_sessions(self, person: str) -> tuple[list[int], int]:
        """Abort all that is executing or submitted for a person; returns the jobs, and how many sessions.

        Raises:
            PeerUnreachableError: the broker does not answer.
            NotAllowedError: that is for admins.
        """
        request = fleet_pb2.EndSessionsRequest(person=person, user_name=self._settings.user_name)
        response = self.connection.call(self._stub.EndSessions, request, ABORT_TIMEOUT_S)
        return list(response.job_ids), response.session_count

    def task_records(self, number: int) -> Iterator[TaskRecordBlock]:
        """The records of the tasks of a job, or of a session.

        Raises:
            PeerUnreachableError: the broker does not answer.
            NotFoundError: the job or session has no records.
        """
        request = fleet_pb2.GetTaskRecordsRequest(id=number)
        for response in self.connection.stream(self._stub.GetTaskRecords, request, RECORDS_TIMEOUT_S):
            yield from response.blocks


def read_fleet(status: fleet_pb2.GetStatusResponse) -> FleetStatus:
    """The broker's status as values."""
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
        serialize_jobs=status.serialize_jobs,
        max_jobs_per_user=status.max_jobs_per_user,
        max_cores_per_user=status.max_cores_per_user,
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
        proof=agent.PROOFS.get(node.proof_kind, ""),
        address=node.address,
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
        core_count=session.core_count,
        ahead_job_ids=tuple(session.ahead_job_ids),
        wait_reason=session.wait_reason,
        unused_s=session.unused_s,
        stages=tuple(
            StageStatus(each.job_id, each.operation, each.done_count, each.total_count, each.replayed_count)
            for each in session.stages
        ),
    )
