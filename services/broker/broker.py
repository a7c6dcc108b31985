"""The broker: turns what nodes, lanes and drivers report into events of the fleet core, and obeys it.

Runs in one event loop; every method is called there. Knows sessions and their drivers; the fleet
core decides who executes and on which cores.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, assert_never

from quakegrid import __version__, errors, jobs_aio, rpc
from quakegrid.api.v1 import agent_pb2, broker_pb2
from quakegrid.config import Settings
from quakegrid.jobs import JobState
from quakegrid.wire.v1 import lane_pb2
from services.broker import fleet as core
from services.broker.lanes import LaneProcess
from services.broker.nodes import NodeLink

log = logging.getLogger("quakegrid.broker")
ABORT_GRACE_S = 2.0
STOP_GRACE_S = 2 * ABORT_GRACE_S


@dataclass(slots=True)
class Session:
    """A driver's connection: what it asked for, what it is told, and what its lane counts."""

    session_id: int
    request: broker_pb2.OpenSessionRequest
    events: asyncio.Queue[broker_pb2.OpenSessionResponse] = field(default_factory=asyncio.Queue)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    counts: lane_pb2.LaneCounts = field(default_factory=lane_pb2.LaneCounts)
    end_reason: str = ""
    is_admitted: bool = False


class Broker:
    """The fleet of one cluster and its open sessions.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        run_name = secrets.token_hex(3)
        self._fleet = core.Fleet(settings.agent_host_cores, settings.serialize_jobs, run_name)
        self._sessions: dict[int, Session] = {}
        # Never the id of a session whose workers an earlier broker left.
        self._next_session_id = time.time_ns() // 1_000_000
        self._nodes = {
            item.host: NodeLink(
                settings, item.host, on_status=self._on_status, on_exit=self._on_exit, on_lost=self._on_lost
            )
            for item in settings.agent_host_cores
        }
        self._lane: LaneProcess | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._node_up = asyncio.Event()
        self._stop_reason = "the broker was stopped"
        self.failed = asyncio.Event()

    async def start(self) -> None:
        """Open the lane and watch the nodes."""
        self._lane = LaneProcess(
            self._settings,
            self._settings.lane_ports[0],
            on_counts=self._on_counts,
            on_death=self._on_lane_death,
        )
        await self._lane.wait_until_ready()
        for link in self._nodes.values():
            self._spawn(link.run())

    async def stop(self) -> None:
        """Tell every driver, then let go of nodes and lane."""
        for session in list(self._sessions.values()):
            self._fail(session.session_id, self._stop_reason)
        ends = [asyncio.ensure_future(session.ended.wait()) for session in self._sessions.values()]
        if ends:
            await asyncio.wait(ends, timeout=STOP_GRACE_S)
        for task in [*ends, *self._tasks]:
            task.cancel()
        await asyncio.gather(*ends, *self._tasks, return_exceptions=True)
        if self._lane:
            self._lane.stop()

    def open_session(self, request: broker_pb2.OpenSessionRequest) -> Session:
        """Take in a driver; its events tell when it may start.

        Raises:
            StateError: one of its jobs is in another session.
        """
        for job_id in request.job_ids:
            other = self._session_of(job_id)
            if other:
                raise errors.StateError(f"job {job_id} is executed by process {other.request.pid} already")
        session = Session(self._next_session_id, request)
        self._next_session_id += 1
        self._sessions[session.session_id] = session
        log.info("session_opened session=%d jobs=%s", session.session_id, list(request.job_ids))
        self._handle(
            core.SessionRequested(
                session.session_id, tuple(request.job_ids), request.is_local, request.max_workers
            )
        )
        return session

    async def end_session(self, session: Session) -> None:
        """Stop the workers of a session whose stream ended, and fail the jobs that did not end."""
        if self._sessions.pop(session.session_id, None) is None:
            return
        is_forced = session.counts.running_count > 0 or bool(session.end_reason)
        log.info("session_ended session=%d forced=%s", session.session_id, is_forced)
        closing = lane_pb2.CloseLaneSession(session_id=session.session_id)
        self._tell_lane(lane_pb2.ControlMessage(close=closing))
        self._handle(core.SessionEnded(session.session_id, is_forced))
        session.ended.set()
        where = f"{session.request.host} (process {session.request.pid})"
        reason = session.end_reason or f"the driver on {where} ended before its calculation did"
        for job_id in session.request.job_ids:
            self._spawn(self._settle(job_id, reason))

    async def abort_job(self, job_id: int, user_name: str) -> bool:
        """Abort a job wherever it is; tells whether it was executing or queued here.

        Raises:
            NotFoundError: there is no such job.
            PeerUnreachableError: the dbserver does not answer.
        """
        session = self._session_of(job_id)
        reason = f"aborted by {user_name or 'somebody'}"
        if session is None:
            await self._transition(job_id, JobState.ABORTED, reason)
            return False
        session.end_reason = reason
        for each in session.request.job_ids:
            await self._transition(each, JobState.ABORTED, reason)
        aborted = broker_pb2.SessionAborted(reason=reason)
        session.events.put_nowait(broker_pb2.OpenSessionResponse(aborted=aborted))
        await self._await_end(session)
        return True

    async def wait_for_nodes(self) -> list[broker_pb2.NodeStatus]:
        """Wait until a node is up."""
        await self._node_up.wait()
        return self._node_statuses()

    def status(self) -> broker_pb2.GetStatusResponse:
        """Everything that `quakegrid status` shows of the fleet."""
        lanes = []
        if self._lane:
            count = sum(session.is_admitted for session in self._sessions.values())
            lanes = [broker_pb2.LaneStatus(port=self._lane.port, pid=self._lane.pid, session_count=count)]
        return broker_pb2.GetStatusResponse(
            nodes=self._node_statuses(),
            sessions=[self._session_status(session) for session in self._sessions.values()],
            lanes=lanes,
            version=__version__,
        )

    # --- what nodes and lanes report

    def _on_status(self, host: str, status: agent_pb2.AgentStatus, is_first: bool) -> None:
        ours = {worker.worker_id for worker in self._fleet.workers.values()}
        strangers = {worker.session_id for worker in status.workers if worker.worker_id not in ours}
        for session_id in strangers - self._sessions.keys():
            self._spawn(self._nodes[host].stop_workers(session_id, is_forced=True))
        present = frozenset(worker.worker_id for worker in status.workers) if is_first else None
        state = status.template_state
        self._handle(core.NodeReported(host, status.node, status.core_count, state, present))
        if self._fleet.core_count:
            self._node_up.set()

    def _on_exit(self, exited: agent_pb2.WorkerExited) -> None:
        peak = f", peak memory {exited.peak_memory_bytes / 2**20:.0f} MiB" if exited.peak_memory_bytes else ""
        self._handle(core.WorkerExited(exited.worker_id, exited.reason + peak, exited.is_clean))

    def _on_lost(self, host: str, reason: str) -> None:
        log.warning("node_lost host=%s reason=%s", host, reason)
        self._handle(core.NodeLost(host, reason))
        if not self._fleet.core_count:
            self._node_up.clear()

    def _on_lane_death(self) -> None:
        assert self._lane is not None
        self._stop_reason = f"the lane on port {self._lane.port} died"
        self.failed.set()

    def _on_counts(self, counts: lane_pb2.LaneCounts) -> None:
        session = self._sessions.get(counts.session_id)
        if session is None:
            return
        ended_before = session.counts.done_count + session.counts.failed_count
        if counts.done_count + counts.failed_count > ended_before:
            self._handle(core.ProgressMade(session.session_id))
        session.counts = counts

    # --- what the core decides

    def _handle(self, event: core.Event) -> None:
        for action in self._fleet.handle(event):
            self._perform(action)

    def _perform(self, action: core.Action) -> None:
        match action:
            case core.Admit(session_id):
                self._admit(self._sessions[session_id])
            case core.Queue(session_id, ahead):
                queued = broker_pb2.SessionQueued(ahead_job_ids=ahead)
                self._tell(session_id, broker_pb2.OpenSessionResponse(queued=queued))
            case core.StartWorkers(host, session_id, worker_ids):
                self._spawn(self._start_workers(host, session_id, worker_ids))
            case core.DrainWorker(session_id, worker_id):
                drain = lane_pb2.DrainWorker(session_id=session_id, worker_id=worker_id)
                self._tell_lane(lane_pb2.ControlMessage(drain=drain))
            case core.StopWorkers(host, session_id, is_forced):
                self._spawn(self._nodes[host].stop_workers(session_id, is_forced=is_forced))
            case core.LoseWorker(session_id, worker_id, reason, is_clean):
                if not is_clean:
                    log.warning("worker_lost session=%d worker=%s reason=%s", session_id, worker_id, reason)
                lost = lane_pb2.WorkerLost(
                    session_id=session_id, worker_id=worker_id, reason=reason, is_clean=is_clean
                )
                self._tell_lane(lane_pb2.ControlMessage(worker_lost=lost))
            case core.FailSession(session_id, reason):
                self._fail(session_id, reason)
            case _ as unreachable:
                assert_never(unreachable)

    def _admit(self, session: Session) -> None:
        assert self._lane is not None
        session.is_admitted = True
        opening = lane_pb2.OpenLaneSession(
            session_id=session.session_id,
            max_attempts=self._settings.max_attempts,
            job_ids=session.request.job_ids,
            user_name=session.request.user_name,
        )
        self._tell_lane(lane_pb2.ControlMessage(open=opening))
        admitted = broker_pb2.SessionAdmitted(
            session_id=session.session_id,
            lane_endpoint=self._lane.endpoint,
            core_count=self._fleet.core_count,
        )
        self._tell(session.session_id, broker_pb2.OpenSessionResponse(admitted=admitted))

    async def _start_workers(self, host: str, session_id: int, worker_ids: tuple[str, ...]) -> None:
        session = self._sessions.get(session_id)
        started: list[str] = []
        if session and self._lane:
            setup = session.request.worker_setup
            link = self._nodes[host]
            started = await link.start_workers(session_id, worker_ids, self._lane.endpoint, setup)
        self._handle(core.WorkersStarted(tuple(started)))
        refused = tuple(worker_id for worker_id in worker_ids if worker_id not in started)
        if refused:
            self._handle(core.WorkersRefused(refused))
        if started and session_id not in self._sessions:  # it ended while they started
            await self._nodes[host].stop_workers(session_id, is_forced=True)

    def _fail(self, session_id: int, reason: str) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            return
        session.end_reason = reason
        failed = broker_pb2.SessionFailed(reason=reason)
        self._tell(session_id, broker_pb2.OpenSessionResponse(failed=failed))
        self._spawn(self._await_end(session))

    async def _await_end(self, session: Session) -> None:
        """Give the driver time to end by itself; then its node's agent ends it."""
        try:
            await asyncio.wait_for(session.ended.wait(), ABORT_GRACE_S)
        except TimeoutError:
            for link in self._links_of(session):
                await link.stop_driver(session.request.pid)
            await self.end_session(session)

    def _links_of(self, session: Session) -> list[NodeLink]:
        """The links to the driver's node, known by the name that its agent gave."""
        host = session.request.host
        return [
            self._nodes[node.host] for node in self._fleet.nodes.values() if host in (node.name, node.host)
        ]

    async def _settle(self, job_id: int, reason: str) -> None:
        """Fail a job whose driver is gone, unless it ended; the dbserver may be away for a while."""
        for delay_s in itertools.chain((0.2, 0.5, 1.0, 2.0), itertools.repeat(5.0)):
            try:
                await self._transition(job_id, JobState.FAILED, reason)
            except errors.PeerUnreachableError:
                await asyncio.sleep(delay_s)
            else:
                return

    async def _transition(self, job_id: int, state: JobState, reason: str) -> bool:
        """Move a job in the database; False if it ended already, and stays as it is.

        Raises:
            NotFoundError: there is no such job.
            PeerUnreachableError: the dbserver does not answer.
        """
        address = self._settings.dbserver_address
        async with rpc.open_aio_channel(address, self._settings.authkey) as channel:
            try:
                await jobs_aio.transition_job(channel, job_id, state, reason, address=address)
            except errors.StateError:
                return False
        return True

    # --- small things

    def _session_of(self, job_id: int) -> Session | None:
        return next((each for each in self._sessions.values() if job_id in each.request.job_ids), None)

    def _tell(self, session_id: int, response: broker_pb2.OpenSessionResponse) -> None:
        self._sessions[session_id].events.put_nowait(response)

    def _tell_lane(self, message: lane_pb2.ControlMessage) -> None:
        if self._lane:
            self._lane.send(message)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("broker_task_failed", exc_info=task.exception())
            self.failed.set()

    def _node_statuses(self) -> list[broker_pb2.NodeStatus]:
        busy = {name for session in self._sessions.values() for name in session.counts.busy_worker_ids}
        statuses = []
        for node in self._fleet.nodes.values():
            workers = self._fleet.workers_of(host=node.host)
            statuses.append(
                broker_pb2.NodeStatus(
                    host=node.host,
                    node=node.name,
                    is_up=node.core_count > 0,
                    core_count=node.core_count,
                    worker_count=len(workers),
                    running_count=sum(worker.worker_id in busy for worker in workers),
                    state=node.state,
                )
            )
        return statuses

    def _session_status(self, session: Session) -> broker_pb2.SessionStatus:
        request, counts = session.request, session.counts
        return broker_pb2.SessionStatus(
            session_id=session.session_id,
            job_ids=request.job_ids,
            user_name=request.user_name,
            state="executing" if session.is_admitted else "queued",
            host=request.host,
            pid=request.pid,
            lane_port=self._lane.port if self._lane and session.is_admitted else 0,
            worker_count=len(self._fleet.workers_of(session_id=session.session_id)),
            queued_count=counts.queued_count,
            running_count=counts.running_count,
            done_count=counts.done_count,
            requeued_count=counts.requeued_count,
        )
