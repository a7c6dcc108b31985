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

from quakegrid import errors, security
from quakegrid.api.v1 import agent_pb2, broker_pb2
from quakegrid.config import Settings
from quakegrid.jobs import JobState
from quakegrid.wire.v1 import lane_pb2
from services.broker import absences
from services.broker import fleet_events as core
from services.broker.fleet import Fleet
from services.broker.job_ends import end_job, fail_job
from services.broker.lane_pool import LanePool
from services.broker.node_reports import NodeReports
from services.broker.nodes import NodeLink
from services.broker.sessions import Events, Rate, Session, check_request
from services.broker.statuses import StatusWriter

log = logging.getLogger("quakegrid.broker")
ABORT_GRACE_S = 2.0
STOP_GRACE_S = 2 * ABORT_GRACE_S
# So many that have ended are refused by their own reasons, if their drivers did not hear of it.
REMEMBERED_SESSIONS = 1000


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
        self._ended: dict[int, str] = {}
        # Never the id of a session whose workers an earlier broker left.
        self._next_session_id = time.time_ns() // 1_000_000
        self._token_key = security.token_key(settings.authkey)
        self._reports = NodeReports(settings, self._fleet, self._on_output, self._spawn, self._handle)
        self.members = self._reports.members
        self._nodes = self.members.links
        self._lanes = LanePool(
            settings,
            self._spawn,
            opening=self._opening,
            on_counts=self._on_counts,
            on_overdue=self._on_overdue,
            on_placed=self._on_placed,
            on_failed=self._fail,
        )
        self._statuses = StatusWriter(self._fleet, self._sessions, self._lanes)
        self._tasks: set[asyncio.Task[None]] = set()
        self.stopping = asyncio.Event()
        self.failed = asyncio.Event()

    def start(self) -> None:
        """Open the first lane and watch the nodes."""
        self._lanes.start()
        self.members.start()
        self._spawn(self._count_seconds())

    def leave(self) -> None:
        """Leave everything to the next broker; its lanes will want our ports."""
        self._lanes.kill()

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
        """Take in a driver; its events tell when it may start. One that had lost us goes on.

        Raises:
            StateError: one of its jobs is in another session, or its session has ended.
            UsageError: it asks for what no session can have.
        """
        check_request(request)
        if request.resumed_session_id:
            token = security.session_token(self._token_key, request.resumed_session_id)
            if not security.is_token(request.resumed_token, token):
                raise errors.StateError(f"session {request.resumed_session_id} is not this driver's")
        known = next((each for each in self._sessions.values() if each.goes_on_with(request)), None)
        if known:
            log.info("session_went_on session=%d", known.session_id)
            if known.placed.is_set() and not request.resumed_session_id:
                self._on_placed(known.session_id)  # it was told on the stream that broke
            return known
        if request.resumed_session_id in self._ended:
            raise errors.StateError(self._ended[request.resumed_session_id])
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
        self._handle(
            core.SessionRequested(
                session.session_id,
                tuple(request.job_ids),
                request.is_local,
                request.max_workers,
                session.weight,
                self._fleet.leftovers.workers_of(session_id) if is_resumed else None,
                dict(request.fingerprint),
                request.cores_per_worker or 1,
            )
        )
        if is_resumed:
            session.is_admitted = True
            self._lanes.resume(session_id, request.lane_port)
        return session

    def close_session(self, session_id: int) -> None:
        """End a session as its driver wants."""
        session = self._sessions.get(session_id)
        if session:
            self._end_session(session)

    def on_stream_ended(self, session: Session, events: Events) -> None:
        """A stream of a session's driver is gone: the driver, too, or it comes back."""
        if session.events is not events or session.session_id not in self._sessions:
            return  # it has another one, or was closed
        if self.stopping.is_set() or session.end_reason:
            self._end_session(session)
        else:
            log.warning("session_stream_broke session=%d driver=%s", session.session_id, session.where)
            self._spawn(self._await_driver(session, events))

    async def _await_driver(self, session: Session, events: Events) -> None:
        """Keep a session until its driver comes back; end it when it will not."""
        timeout_s = self._settings.node_timeout_s
        reason = await absences.await_end(session, events, lambda: self._links_of(session), timeout_s)
        if reason and session.events is events:
            session.end_reason = session.end_reason or reason
            self._end_session(session)
            for link in self._links_of(session):
                await link.stop_driver(session.request.pid)

    def _end_session(self, session: Session) -> None:
        """Stop the workers of a session, and fail the jobs that did not end."""
        if self._sessions.pop(session.session_id, None) is None:
            return
        is_forced = session.counts.running_count > 0 or bool(session.end_reason)
        log.info("session_ended session=%d forced=%s", session.session_id, is_forced)
        self._statuses.on_session_ended(session)
        self._lanes.remove(session.session_id)
        self._handle(core.SessionEnded(session.session_id, is_forced))
        session.placed.set()
        session.ended.set()
        session.events.put_nowait(None)
        reason = session.end_reason or f"the driver on {session.where} ended before its calculation did"
        self._ended[session.session_id] = f"the session has ended: {reason}"
        if len(self._ended) > REMEMBERED_SESSIONS:
            del self._ended[next(iter(self._ended))]
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
        await self._reports.has_cores.wait()
        return self._statuses.nodes()

    def status(self) -> broker_pb2.GetStatusResponse:
        """Everything that `quakegrid status` shows of the fleet."""
        return self._statuses.status(time.monotonic())

    # --- what nodes and lanes report

    def _on_output(self, output: agent_pb2.WorkerOutput) -> None:
        session = self._sessions.get(output.session_id)
        response = session.output.admit(output, time.monotonic()) if session else None
        if session and response:
            session.events.put_nowait(response)

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

    def _on_overdue(self, overdue: lane_pb2.TaskOverdue) -> None:
        worker = self._fleet.workers.get(overdue.worker_id)
        if worker is None or worker.host not in self._nodes:
            return  # it has ended
        reason = f"its task ran longer than [broker] task_timeout = {self._settings.task_timeout_s:g} s"
        self._spawn(self._nodes[worker.host].kill_worker(overdue.session_id, overdue.worker_id, reason))

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
            case core.StopWorkers(host, session_id, is_forced, worker_ids):
                link = self._nodes[host]
                self._spawn(link.stop_workers(session_id, is_forced=is_forced, worker_ids=worker_ids))
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
            case _ as unreachable:
                assert_never(unreachable)

    def _opening(self, session_id: int) -> list[lane_pb2.ControlMessage]:
        """What a lane is to know of a session that comes to it, for the first time or again."""
        request = self._sessions[session_id].request
        workers = self._fleet.workers_of(session_id=session_id)
        opening = lane_pb2.OpenLaneSession(
            session_id=session_id,
            max_attempts=self._settings.max_attempts,
            job_ids=request.job_ids,
            user_name=request.user_name,
            worker_count=sum(worker.is_started for worker in workers),
            task_timeout_s=self._settings.task_timeout_s,
        )
        drains = [
            lane_pb2.DrainWorker(session_id=session_id, worker_id=worker.worker_id)
            for worker in workers
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
            session_id=session_id,
            lane_endpoint=lane.endpoint,
            core_count=self._fleet.core_count,
            session_token=security.session_token(self._token_key, session_id),
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
            request = session.request
            session.hosts.add(host)
            started = await self._nodes[host].start_workers(
                session_id,
                worker_ids,
                lane.endpoint,
                request.worker_setup,
                width=width,
                fingerprint=request.fingerprint,
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
            self._end_session(session)

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
