"""The broker: turns what nodes, lanes and drivers report into events of the fleet core, and obeys it.

Runs in one event loop; every method is called there. Knows sessions and their drivers; the fleet
core decides who executes and on which cores.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Coroutine
from typing import Any, assert_never

from quakegrid import agents, errors
from quakegrid.api.v1 import agent_pb2, broker_pb2
from quakegrid.config import Settings
from quakegrid.fingerprint import CLOCK
from quakegrid.jobs import JobState
from quakegrid.wire.v1 import lane_pb2
from services.broker import fleet_events as core
from services.broker.fleet import Fleet
from services.broker.job_ends import end_job, fail_job
from services.broker.lane_pool import LanePool
from services.broker.members import Members
from services.broker.nodes import NodeLink, describe_state
from services.broker.sessions import Rate, Session, check_request
from services.broker.statuses import StatusWriter

log = logging.getLogger("quakegrid.broker")
ABORT_GRACE_S = 2.0
# Workers of sessions that we do not know are stopped so long after our start: drivers come back by then.
RESUME_GRACE_S = 10.0
STOP_GRACE_S = 2 * ABORT_GRACE_S


class Broker:
    """The fleet of one cluster and its open sessions.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        run_name = secrets.token_hex(3)
        self._fleet = Fleet(settings.agent_host_cores, settings.serialize_jobs, run_name)
        self._sessions: dict[int, Session] = {}
        # Never the id of a session whose workers an earlier broker left.
        self._next_session_id = time.time_ns() // 1_000_000
        self.members = Members(settings, self._new_link, self._spawn, self._handle)
        self._nodes = self.members.links
        # Workers of each node by session, as its agent last told.
        self._reported: dict[str, tuple[tuple[str, int], ...]] = {}
        self._start_s = time.monotonic()
        self._lanes = LanePool(
            settings,
            self._spawn,
            opening=self._opening,
            on_counts=self._on_counts,
            on_placed=self._on_placed,
            on_failed=self._fail,
        )
        self._statuses = StatusWriter(self._fleet, self._sessions, self._lanes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._node_up = asyncio.Event()
        self.stopping = asyncio.Event()
        self.failed = asyncio.Event()

    def start(self) -> None:
        """Open the first lane and watch the nodes."""
        self._lanes.start()
        self.members.start()
        self._spawn(self._count_seconds())

    async def stop(self) -> None:
        """Tell every driver, then let go of nodes and lanes."""
        self.stopping.set()
        for session in list(self._sessions.values()):
            self._fail(session.session_id, "the broker was stopped")
        ends = [asyncio.ensure_future(session.ended.wait()) for session in self._sessions.values()]
        if ends:
            await asyncio.wait(ends, timeout=STOP_GRACE_S)
        for task in [*ends, *self._tasks]:
            task.cancel()
        await asyncio.gather(*ends, *self._tasks, return_exceptions=True)
        await self._lanes.stop()

    def open_session(self, request: broker_pb2.OpenSessionRequest) -> Session:
        """Take in a driver; its events tell when it may start.

        Raises:
            StateError: one of its jobs is in another session.
            UsageError: it asks for what no session can have.
        """
        check_request(request)
        for job_id in request.job_ids:
            other = self._session_of(job_id)
            if other:
                raise errors.StateError(f"job {job_id} is executed by process {other.request.pid} already")
        session_id = request.resumed_session_id or self._next_session_id
        if session_id in self._sessions:
            raise errors.StateError(f"session {session_id} is open already")
        self._next_session_id = max(self._next_session_id, session_id) + 1
        session = Session(session_id, request, Rate(time.monotonic()))
        self._sessions[session_id] = session
        is_resumed = bool(request.resumed_session_id)
        log.info(
            "session_opened session=%d jobs=%s resumed=%s", session_id, list(request.job_ids), is_resumed
        )
        workers = [
            (worker_id, host)
            for host, reported in self._reported.items()
            for worker_id, owner_id in reported
            if owner_id == session_id
        ]
        self._handle(
            core.SessionRequested(
                session.session_id,
                tuple(request.job_ids),
                request.is_local,
                request.max_workers,
                session.weight,
                tuple(workers) if is_resumed else None,
                dict(request.fingerprint),
                request.cores_per_worker or 1,
            )
        )
        if is_resumed:
            session.is_admitted = True
            self._lanes.resume(session_id, request.lane_port)
        return session

    async def end_session(self, session: Session) -> None:
        """Stop the workers of a session whose stream ended, and fail the jobs that did not end."""
        if self._sessions.pop(session.session_id, None) is None:
            return
        is_forced = session.counts.running_count > 0 or bool(session.end_reason)
        log.info("session_ended session=%d forced=%s", session.session_id, is_forced)
        self._statuses.on_session_ended(session)
        self._lanes.remove(session.session_id)
        self._handle(core.SessionEnded(session.session_id, is_forced))
        session.placed.set()
        session.ended.set()
        where = f"{session.request.host} (process {session.request.pid})"
        reason = session.end_reason or f"the driver on {where} ended before its calculation did"
        for job_id in session.request.job_ids:
            self._spawn(fail_job(self._settings, job_id, reason))

    async def flush_output(self, session_id: int) -> None:
        """Tell a driver what its workers have printed so far, and that this is all."""
        session = self._sessions.get(session_id)
        if session is None:
            return
        await asyncio.gather(*(self._nodes[host].flush_output(session_id) for host in session.hosts))
        flushed = agent_pb2.OutputFlushed(session_id=session_id)
        session.events.put_nowait(broker_pb2.OpenSessionResponse(output_flushed=flushed))

    async def abort_job(self, job_id: int, user_name: str) -> bool:
        """Abort a job wherever it is; tells whether it was executing or queued here.

        Raises:
            NotFoundError: there is no such job.
            PeerUnreachableError: the dbserver does not answer.
        """
        session = self._session_of(job_id)
        reason = f"aborted by {user_name or 'somebody'}"
        if session is None:
            await end_job(self._settings, job_id, JobState.ABORTED, reason)
            return False
        session.end_reason = reason
        for each in session.request.job_ids:
            await end_job(self._settings, each, JobState.ABORTED, reason)
        aborted = broker_pb2.SessionAborted(reason=reason)
        session.events.put_nowait(broker_pb2.OpenSessionResponse(aborted=aborted))
        await self._await_end(session)
        return True

    async def wait_for_nodes(self) -> list[broker_pb2.NodeStatus]:
        """Wait until a node is up and gives cores."""
        await self._node_up.wait()
        return self._statuses.nodes()

    def status(self) -> broker_pb2.GetStatusResponse:
        """Everything that `quakegrid status` shows of the fleet."""
        return self._statuses.status(time.monotonic())

    # --- what nodes and lanes report

    def _new_link(self, host: str, address: str) -> NodeLink:
        return NodeLink(
            self._settings,
            host,
            address,
            on_status=self._on_status,
            on_exit=self._on_exit,
            on_output=self._on_output,
            on_lost=self._on_lost,
        )

    def _on_status(self, host: str, status: agent_pb2.AgentStatus, is_first: bool) -> None:
        self.members.note_instance(host, status.instance_id)
        if host not in self._nodes:
            return  # the agent is another node's
        ours = {worker.worker_id for worker in self._fleet.workers.values()}
        strangers = {worker.session_id for worker in status.workers if worker.worker_id not in ours}
        for session_id in strangers - self._sessions.keys():
            self._spawn(self._stop_strangers(host, session_id))
        reported = tuple((worker.worker_id, worker.session_id) for worker in status.workers)
        self._reported[host] = reported
        present = frozenset(worker.worker_id for worker in status.workers) if is_first else None
        self._handle(
            core.NodeReported(
                host,
                status.node,
                status.core_count,
                describe_state(status),
                present,
                reported,
                {**status.fingerprint, CLOCK: self._nodes[host].clock},
                cores_per_worker=status.cores_per_worker or 1,
                is_short_of_memory=status.is_short_of_memory,
                is_ready=agents.template_state(status).is_ready,
            )
        )
        if self._fleet.core_count:
            self._node_up.set()
        else:
            self._node_up.clear()  # whoever comes waits until somebody gives cores

    async def _stop_strangers(self, host: str, session_id: int) -> None:
        """Stop workers of a session that is not ours, unless its driver comes back to us."""
        await asyncio.sleep(self._start_s + RESUME_GRACE_S - time.monotonic())
        if session_id not in self._sessions and host in self._nodes:
            await self._nodes[host].stop_workers(session_id, is_forced=True)

    def _on_exit(self, exited: agent_pb2.WorkerExited) -> None:
        peak = f", peak memory {exited.peak_memory_bytes / 2**20:.0f} MiB" if exited.peak_memory_bytes else ""
        last_output = tuple(exited.last_output)
        self._handle(
            core.WorkerExited(
                exited.worker_id, exited.reason + peak, exited.is_clean, last_output, exited.is_blameless
            )
        )

    def _on_output(self, output: agent_pb2.WorkerOutput) -> None:
        session = self._sessions.get(output.session_id)
        response = session.output.admit(output, time.monotonic()) if session else None
        if session and response:
            session.events.put_nowait(response)

    def _on_lost(self, host: str, reason: str) -> None:
        log.warning("node_lost host=%s reason=%s", host, reason)
        self.members.note_instance(host, "")
        self._handle(core.NodeLost(host, reason))
        if not self._fleet.core_count:
            self._node_up.clear()

    def _on_counts(self, counts: lane_pb2.LaneCounts) -> None:
        session = self._sessions.get(counts.session_id)
        if session is None:
            self._statuses.on_last_counts(counts)
            return
        ended_before = session.counts.done_count + session.counts.failed_count
        if counts.done_count + counts.failed_count > ended_before:
            self._handle(core.ProgressMade(session.session_id))
        session.counts = counts
        session.done_rate.add(time.monotonic(), counts.done_count)
        if session.task_count is not None:
            busy = frozenset(counts.busy_worker_ids)
            self._handle(core.TasksCounted(session.session_id, session.task_count, busy))

    async def _count_seconds(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._handle(core.SecondPassed())

    # --- what the core decides

    def _handle(self, event: core.Event) -> None:
        for action in self._fleet.handle(event):
            self._perform(action)

    def _perform(self, action: core.Action) -> None:  # noqa: C901 - a case each
        match action:
            case core.Admit(session_id):
                self._sessions[session_id].is_admitted = True
                self._lanes.place(session_id)
            case core.Queue(session_id, ahead):
                queued = broker_pb2.SessionQueued(ahead_job_ids=ahead)
                self._tell(session_id, broker_pb2.OpenSessionResponse(queued=queued))
            case core.StartWorkers(host, session_id, worker_ids, width):
                self._spawn(self._start_workers(host, session_id, worker_ids, width))
            case core.DrainWorker(session_id, worker_id):
                drain = lane_pb2.DrainWorker(session_id=session_id, worker_id=worker_id)
                self._lanes.send(session_id, lane_pb2.ControlMessage(drain=drain))
            case core.StopWorkers(host, session_id, is_forced):
                self._spawn(self._nodes[host].stop_workers(session_id, is_forced=is_forced))
            case core.LoseWorker(session_id, worker_id, reason, is_clean, node, last_output, is_blameless):
                if not is_clean:
                    log.warning("worker_lost session=%d worker=%s reason=%s", session_id, worker_id, reason)
                lost = lane_pb2.WorkerLost(
                    session_id=session_id,
                    worker_id=worker_id,
                    reason=reason,
                    is_clean=is_clean,
                    node=node,
                    last_output=last_output,
                    is_blameless=is_blameless,
                )
                self._lanes.send(session_id, lane_pb2.ControlMessage(worker_lost=lost))
            case core.LeaveOut(host, session_id, differences):
                title = self._fleet.nodes[host].title
                log.warning("node_left_out session=%d node=%s how=%s", session_id, title, differences)
                left_out = broker_pb2.NodeLeftOut(node=title, differences=differences)
                self._tell(session_id, broker_pb2.OpenSessionResponse(node_left_out=left_out))
            case core.FailSession(session_id, reason):
                self._fail(session_id, reason)
            case core.ForgetNode(host):
                self.members.forget(host)
                self._reported.pop(host, None)
            case _ as unreachable:
                assert_never(unreachable)

    def _opening(self, session_id: int) -> list[lane_pb2.ControlMessage]:
        """What a lane is to know of a session that comes to it, for the first time or again."""
        request = self._sessions[session_id].request
        opening = lane_pb2.OpenLaneSession(
            session_id=session_id,
            max_attempts=self._settings.max_attempts,
            job_ids=request.job_ids,
            user_name=request.user_name,
        )
        drains = [
            lane_pb2.DrainWorker(session_id=session_id, worker_id=worker.worker_id)
            for worker in self._fleet.workers_of(session_id=session_id)
            if worker.is_draining  # no lane has heard of it, or none that is left
        ]
        return [
            lane_pb2.ControlMessage(open=opening),
            *(lane_pb2.ControlMessage(drain=drain) for drain in drains),
        ]

    def _on_placed(self, session_id: int) -> None:
        lane = self._lanes.lane_of(session_id)
        assert lane is not None
        admitted = broker_pb2.SessionAdmitted(
            session_id=session_id, lane_endpoint=lane.endpoint, core_count=self._fleet.core_count
        )
        self._tell(session_id, broker_pb2.OpenSessionResponse(admitted=admitted))
        self._sessions[session_id].placed.set()

    async def _start_workers(
        self, host: str, session_id: int, worker_ids: tuple[str, ...], width: int
    ) -> None:
        session = self._sessions.get(session_id)
        started: list[str] = []
        if session:
            await session.placed.wait()
        worker_ids = tuple(each for each in worker_ids if each in self._fleet.workers)  # a node may be lost
        lane = self._lanes.lane_of(session_id)
        if session and lane and worker_ids:
            setup = session.request.worker_setup
            session.hosts.add(host)
            started = await self._nodes[host].start_workers(
                session_id, worker_ids, lane.endpoint, setup, width=width
            )
        self._handle(core.WorkersStarted(tuple(started)))
        refused = tuple(worker_id for worker_id in worker_ids if worker_id not in started)
        if refused:
            self._handle(core.WorkersRefused(refused))
        if started and session_id not in self._sessions and host in self._nodes:  # it ended meanwhile
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

    # --- small things

    def _session_of(self, job_id: int) -> Session | None:
        return next((each for each in self._sessions.values() if job_id in each.request.job_ids), None)

    def _tell(self, session_id: int, response: broker_pb2.OpenSessionResponse) -> None:
        self._sessions[session_id].events.put_nowait(response)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception():
            log.error("broker_task_failed", exc_info=task.exception())
            self.failed.set()
