"""The broker: turns what nodes, lanes and drivers report into events of the fleet core, and obeys it.

Runs in one event loop; every method is called there. Knows sessions and their drivers; the fleet
core decides who executes and on which cores.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, assert_never

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2
from quakegrid.internal.v1 import orders_pb2, sessions_pb2
from quakegrid.jobs.states import JobState
from quakegrid.reports import task_history_files
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials
from quakegrid.wire.v1 import lane_pb2
from services.broker.drivers import jobs_aio, session_ids
from services.broker.drivers.ends import ABORT_GRACE_S, SessionEnds
from services.broker.drivers.job_ends import JobEnds, Transition
from services.broker.drivers.session import Events, Rate, Session
from services.broker.drivers.stops import DriverStops
from services.broker.fleet import events as core
from services.broker.fleet.core import Fleet
from services.broker.guard import BrokerFailedError, Door, guarded
from services.broker.lanes.pool import LanePool, Listener
from services.broker.lanes.process import LaneProcess
from services.broker.nodes.link import NodeLink
from services.broker.nodes.reports import NodeReports
from services.broker.rpc import peer_input
from services.broker.status.status import StatusWriter

log = logging.getLogger("quakegrid.broker")
STOP_GRACE_S = 2 * ABORT_GRACE_S
# Far more than people open; a program that opens one after the other ends there.
MAX_SESSIONS = 10_000
# Of the jobs of a session the log names so many.
MAX_LOGGED_JOBS = 10


@dataclass(frozen=True, slots=True)
class Outside:
    """What the broker reaches outside of its process."""

    new_link: Callable[..., NodeLink] = NodeLink
    new_lane: Callable[[Settings], LaneProcess] = LaneProcess
    transition: Transition = jobs_aio.transition_job


class Broker:
    """The fleet of one cluster and its open sessions.

    Args:
        settings: of the cluster.
        outside: how nodes, lanes and the dbserver are reached.
    """

    def __init__(self, settings: Settings, outside: Outside | None = None) -> None:
        outside = outside or Outside()
        self._settings = settings
        self._door = Door()
        self.failed = self._door.failed
        self._tasks: set[asyncio.Task[None]] = set()
        run_name = secrets.token_hex(3)
        self._fleet = Fleet(settings.agent_host_cores, settings.serialize_jobs, run_name)
        self._sessions: dict[int, Session] = {}
        self._token_key = credentials.token_key(settings.authkey)
        self._next_session_id = session_ids.first_id(
            time.time_ns() // 1_000_000, task_history_files.session_ids(task_history_files.folder(settings))
        )
        self._driver_stops = DriverStops(self._spawn)
        self._reports = NodeReports(
            settings,
            self._fleet,
            self._driver_stops,
            on_output=self._on_output,
            spawn=self._spawn,
            handle=self._handle,
            new_link=outside.new_link,
        )
        self.members = self._reports.members
        self._nodes = self.members.links
        self._job_ends = JobEnds(settings, self._spawn, outside.transition)
        self._ends = SessionEnds(
            settings,
            self._sessions,
            job_ends=self._job_ends,
            driver_stops=self._driver_stops,
            links_of=self._links_of,
            on_ended=self._on_session_ended,
            spawn=self._spawn,
        )
        self._lanes = LanePool(
            settings,
            self._door,
            self._spawn,
            Listener(
                opening=self._opening,
                on_counts=self._on_counts,
                on_overdue=self._on_overdue,
                on_placed=self._on_placed,
                on_failed=self._ends.fail,
            ),
            new_process=outside.new_lane,
        )
        self._statuses = StatusWriter(self._fleet, self._sessions, self._lanes)
        self.stopping = self._ends.stopping

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
        await self._ends.stop(STOP_GRACE_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lanes.stop()

    @guarded
    def open_session(self, request: sessions_pb2.OpenSessionRequest) -> Session:
        """Take in a driver; its events tell when it may start. One that had lost us goes on.

        Raises:
            StateError: one of its jobs is in another session, or its session has ended.
            UsageError: it asks for what no session can have.
        """
        peer_input.check_session(request)
        self._check_token(request)
        known = next((each for each in self._sessions.values() if each.goes_on_with(request)), None)
        if known:
            log.info("session_went_on session=%d", known.session_id)
            if known.placed.is_set() and not request.resumed_session_id:
                self._on_placed(known.session_id)  # it was told on the stream that broke
            return known
        if request.resumed_session_id in self._ends.reasons:
            raise errors.StateError(self._ends.reasons[request.resumed_session_id])
        self._check_jobs(request)
        if len(self._sessions) >= MAX_SESSIONS:
            raise errors.StateError(f"the broker has {MAX_SESSIONS} sessions, no further one can be opened")
        session_id = request.resumed_session_id or self._new_session_id()
        if session_id in self._sessions:
            raise errors.StateError(f"session {session_id} is open already")
        session = Session(session_id, request, Rate(time.monotonic()))
        self._sessions[session_id] = session
        is_resumed = bool(request.resumed_session_id)
        log.info(
            "session_opened session=%d jobs=%s job_count=%d resumed=%s",
            session_id,
            request.job_ids[:MAX_LOGGED_JOBS],
            len(request.job_ids),
            is_resumed,
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

    def _new_session_id(self) -> int:
        """An id that no session has had; never one whose workers an earlier broker left."""
        taken = self._sessions.keys() | self._ends.reasons.keys() | self._fleet.leftovers.session_ids()
        while self._next_session_id in taken:
            self._next_session_id += 1
        self._next_session_id += 1
        return self._next_session_id - 1

    def _check_jobs(self, request: sessions_pb2.OpenSessionRequest) -> None:
        """Refuse jobs of other sessions; looks at each job of each session once."""
        wanted = set(request.job_ids)
        for other in self._sessions.values() if wanted else ():
            job_id = next((each for each in other.request.job_ids if each in wanted), None)
            if job_id is not None:
                raise errors.StateError(f"job {job_id} is executed by process {other.request.pid} already")

    def _check_token(self, request: sessions_pb2.OpenSessionRequest) -> None:
        if not request.resumed_session_id:
            return
        token = credentials.session_token(self._token_key, request.resumed_session_id)
        if not credentials.is_token(request.resumed_token, token):
            raise errors.StateError(f"session {request.resumed_session_id} is not this driver's")

    @guarded
    def close_session(self, session_id: int) -> None:
        """End a session as its driver wants."""
        self._ends.close(session_id)

    @guarded
    def on_stream_ended(self, session: Session, events: Events) -> None:
        """A stream of a session's driver is gone: the driver, too, or it comes back."""
        self._ends.on_stream_ended(session, events)

    async def flush_output(self, session_id: int) -> None:
        """Tell a driver what its workers have printed so far, and that this is all."""
        session = self._sessions.get(session_id)
        if session is None:
            return
        links = [self._nodes[host] for host in session.hosts if host in self._nodes]  # the others have left
        await asyncio.gather(*(link.flush_output(session_id) for link in links))
        flushed = orders_pb2.OutputFlushed(session_id=session_id)
        session.tell(sessions_pb2.OpenSessionResponse(output_flushed=flushed))

    async def abort_job(self, job_id: int, user_name: str) -> bool:
        """Abort a job wherever it is; tells whether it was executing or queued here.

        Raises:
            UsageError: that is nobody's name.
            NotFoundError: there is no such job.
            PeerUnreachableError: the job is not executing here, and the dbserver does not answer.
        """
        with self._door:
            peer_input.check_name(user_name, "a user's name")
            session = self._session_of(job_id)
            reason = f"aborted by {user_name or 'somebody'}"
            if session is not None:
                self._ends.abort(session, reason)
        if session is None:
            await self._job_ends.end_now(job_id, JobState.ABORTED, reason)
            return False
        await self._ends.wait(session)
        return True

    async def wait_for_nodes(self) -> list[fleet_pb2.NodeStatus]:
        """Wait until a node is up and gives cores."""
        await self._reports.has_cores.wait()
        return self._statuses.nodes()

    def status(self) -> fleet_pb2.GetStatusResponse:
        """Everything that `quakegrid status` shows of the fleet."""
        return self._statuses.status(time.monotonic())

    # --- what nodes and lanes report

    @guarded
    def _on_output(self, output: orders_pb2.WorkerOutput) -> None:
        session = self._sessions.get(output.session_id)
        response = session.output.admit(output, time.monotonic()) if session else None
        if session and response:
            session.events.put_nowait(response)

    @guarded
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
            self._driver_stops.pass_second(self._nodes.get)

    # --- what the core decides

    @guarded
    def _handle(self, event: core.Event) -> None:
        for action in self._fleet.handle(event):
            self._perform(action)

    def _perform(self, action: core.Action) -> None:  # noqa: C901 - a case each
        match action:
            case core.Admit(session_id):
                self._sessions[session_id].is_admitted = True
                self._lanes.place(session_id)
            case core.Queue(session_id, ahead):
                queued = sessions_pb2.SessionQueued(ahead_job_ids=ahead)
                self._tell(session_id, sessions_pb2.OpenSessionResponse(queued=queued))
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
                left_out = sessions_pb2.NodeLeftOut(node=title, differences=differences)
                self._tell(session_id, sessions_pb2.OpenSessionResponse(node_left_out=left_out))
            case core.FailSession(session_id, reason):
                self._ends.fail(session_id, reason)
            case core.ForgetNode(host):
                self.members.forget(host)
                self._driver_stops.forget(host)
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
        endpoint = self._lanes.endpoint_of(session_id)
        if endpoint is None:
            return  # its lane was given up, which it is told, too
        admitted = sessions_pb2.SessionAdmitted(
            session_id=session_id,
            lane_endpoint=endpoint,
            core_count=self._fleet.core_count,
            session_token=credentials.session_token(self._token_key, session_id),
        )
        self._tell(session_id, sessions_pb2.OpenSessionResponse(admitted=admitted))
        self._sessions[session_id].placed.set()

    async def _start_workers(
        self, host: str, session_id: int, worker_ids: tuple[str, ...], width: int
    ) -> None:
        session = self._sessions.get(session_id)
        started: list[str] = []
        if session:
            await session.placed.wait()
        worker_ids = tuple(each for each in worker_ids if each in self._fleet.workers)  # a node may be lost
        # Workers wait for a lane that is about to be started again.
        endpoint = self._lanes.endpoint_of(session_id)
        if session and endpoint and worker_ids:
            request = session.request
            session.hosts.add(host)
            started = await self._nodes[host].start_workers(
                session_id,
                worker_ids,
                endpoint,
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

    def _on_session_ended(self, session: Session, is_forced: bool) -> None:
        """Let go of a session that is no more in `_sessions`."""
        self._statuses.on_session_ended(session)
        self._lanes.remove(session.session_id)
        self._handle(core.SessionEnded(session.session_id, is_forced))

    def _links_of(self, session: Session) -> list[NodeLink]:
        """The links to the driver's node, known by the name that its agent gave."""
        host = session.request.host
        return [
            self._nodes[node.host] for node in self._fleet.nodes.values() if host in (node.name, node.host)
        ]

    # --- small things

    def _session_of(self, job_id: int) -> Session | None:
        return next((each for each in self._sessions.values() if job_id in each.request.job_ids), None)

    def _tell(self, session_id: int, response: sessions_pb2.OpenSessionResponse) -> None:
        self._sessions[session_id].tell(response)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        failure = None if task.cancelled() else task.exception()
        if failure and not isinstance(failure, BrokerFailedError):  # that has been told
            log.error("broker_task_failed", exc_info=failure)
        if failure:
            self.failed.set()
