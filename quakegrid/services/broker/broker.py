"""The broker: sessions of drivers, nodes and lanes around one fleet core, which decides who has which cores.

Runs in one event loop; every method is called there. What nodes, lanes and drivers report goes through
`fleet_loop.py` into the fleet core, and `fleet_actions.py` does what the core decides.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quakegrid import __version__
from quakegrid.access.principals import SERVICE, Principal
from quakegrid.api.v1 import fleet_pb2
from quakegrid.internal.v1 import orders_pb2, sessions_pb2
from quakegrid.services.broker.drivers import jobs_aio
from quakegrid.services.broker.drivers.aborts import Aborts, session_of
from quakegrid.services.broker.drivers.absence import DriverProcesses
from quakegrid.services.broker.drivers.ends import ABORT_GRACE_S, SessionEnds
from quakegrid.services.broker.drivers.job_ends import JobEnds, Transition
from quakegrid.services.broker.drivers.requests import SessionRequests
from quakegrid.services.broker.drivers.session import DriverSession, Events
from quakegrid.services.broker.drivers.speakers import Speakers
from quakegrid.services.broker.drivers.stops import DriverStops
from quakegrid.services.broker.fleet import events as core
from quakegrid.services.broker.fleet.core import Fleet
from quakegrid.services.broker.fleet.state import PersonLimits
from quakegrid.services.broker.fleet_actions import FleetActions
from quakegrid.services.broker.fleet_loop import FleetLoop
from quakegrid.services.broker.guard import StateGuard, guarded
from quakegrid.services.broker.happenings.book import EventBook
from quakegrid.services.broker.lanes.pool import LanePool, Listener
from quakegrid.services.broker.lanes.process import LaneProcess
from quakegrid.services.broker.lanes.reports import LaneReports
from quakegrid.services.broker.nodes.link import NodeLink
from quakegrid.services.broker.nodes.registry import NodeRegistry
from quakegrid.services.broker.status.status import StatusWriter
from quakegrid.services.broker.status.totals import SessionTotals
from quakegrid.services.broker.tasks import BackgroundTasks
from quakegrid.services.broker.worker_orders import WorkerOrders
from quakegrid.settings.config import Settings

STOP_GRACE_S = 2 * ABORT_GRACE_S


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
        self._guard = StateGuard()
        self.failed = self._guard.failed
        self._tasks = BackgroundTasks(self._guard)
        spawn = self._tasks.spawn
        fleet = Fleet(
            settings.agent_host_cores,
            settings.serialize_jobs,
            secrets.token_hex(3),
            is_packed=settings.placement == "pack",
            limits=PersonLimits(settings.max_jobs_per_user, settings.max_cores_per_user),
        )
        self._sessions: dict[int, DriverSession] = {}
        self.events = EventBook(settings.state_dir)
        self._loop = FleetLoop(fleet, self._guard, self._perform, self.events.on_event)
        self._totals, self._driver_stops = SessionTotals(), DriverStops(spawn)
        self.nodes = NodeRegistry(
            settings,
            self._loop,
            self._driver_stops,
            tell_output=self._on_output,
            spawn=spawn,
            new_link=outside.new_link,
        )
        self._job_ends = JobEnds(settings, spawn, outside.transition)
        self._ends = SessionEnds(
            self._sessions,
            DriverProcesses(self._links_of, self._driver_stops, settings.node_timeout_s),
            job_ends=self._job_ends,
            on_ended=self._on_session_ended,
            spawn=spawn,
        )
        self._reports = reports = LaneReports(
            settings, self._loop, self._sessions, self.nodes, self._totals, spawn
        )
        listener = Listener(
            opening=reports.opening,
            on_counts=reports.on_counts,
            on_overdue=reports.on_overdue,
            on_placed=reports.on_placed,
            on_failed=self._ends.fail,
            on_lost=self.events.on_lane_lost,
        )
        self._lanes = LanePool(settings, self._guard, spawn, listener, new_process=outside.new_lane)
        orders = WorkerOrders(self._loop, self._sessions, self._lanes, self.nodes, spawn)
        self._actions = FleetActions(fleet, self._sessions, self._lanes, self.nodes, self._ends, orders)
        self._requests = SessionRequests(settings, self._loop, self._sessions, self._ends, self._lanes)
        self.speakers = Speakers(self._requests, self._job_ends, self._guard)
        self._statuses = StatusWriter(fleet, self._sessions, self._lanes, self._totals, self.nodes.links)
        aborts = Aborts(self._sessions, self._ends, self._job_ends, self._guard)
        self.abort_job, self.end_sessions = aborts.abort_job, aborts.end_sessions
        self.stopping, self.end_sessions_of = self._ends.stopping, self._ends.fail_certified

    def start(self) -> None:
        """Open the first lane and watch the nodes."""
        self.events.on_started(__version__)
        self.events.expect(self.nodes.expected)
        self._lanes.start()
        self.nodes.start()
        self._tasks.spawn(self._loop.count_seconds())
        self._tasks.spawn(self._tell_workers())
        self._tasks.spawn(self._driver_stops.count_seconds(self.nodes.links.get))

    def leave(self) -> None:
        """Leave everything to the next broker; its lanes will want our ports."""
        self._lanes.kill()

    async def stop(self) -> None:
        """Tell every driver, then let go of nodes and lanes."""
        await self._ends.stop(STOP_GRACE_S)
        self._loop.stop()
        await self._tasks.stop()
        await self._lanes.stop()

    # --- what drivers and people ask for

    @guarded
    def open_session(
        self, request: sessions_pb2.OpenSessionRequest, principal: Principal = SERVICE
    ) -> DriverSession:
        """Take in a driver, see `SessionRequests.open`."""
        return self._requests.open(request, principal)

    @guarded
    def close_session(self, session_id: int) -> None:
        """End a session as its driver wants."""
        self._ends.close(session_id)

    @guarded
    def on_stream_ended(self, session: DriverSession, events: Events) -> None:
        """A stream of a session's driver is gone: the driver, too, or it comes back."""
        self._ends.on_stream_ended(session, events)

    async def flush_output(self, session_id: int) -> None:
        """Tell a driver what its workers have printed so far, and that this is all."""
        session = self._sessions.get(session_id)
        if session is None:
            return
        links = self.nodes.links_to(session.hosts)
        await asyncio.gather(*(link.orders.flush_output(session_id) for link in links))
        flushed = orders_pb2.OutputFlushed(session_id=session_id)
        session.tell(sessions_pb2.OpenSessionResponse(output_flushed=flushed))

    @guarded
    def note_stages(self, session_id: int, stages: Sequence[fleet_pb2.StageProgress]) -> None:
        """Note how far a driver is, until it tells more or its session ends."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.stages = stages

    async def owner_of_job(self, job_id: int) -> str | None:
        """The user whose job or session this is; None if there is none.

        Raises:
            PeerUnreachableError: the job is not executing here, and the dbserver does not answer.
        """
        owner: str | None = None
        if session_of(self._sessions, job_id) is None:
            owner = await self._job_ends.owner_of(job_id)
        session = session_of(self._sessions, job_id)  # which may have opened meanwhile
        return session.request.user_name if session else owner

    def is_open(self, session_id: int) -> bool:
        """Whether a session has not ended."""
        return session_id in self._sessions

    async def wait_for_nodes(self) -> list[fleet_pb2.NodeStatus]:
        """Wait until a node is up and gives cores."""
        await self.nodes.has_cores.wait()
        return self._statuses.nodes()

    def status(self) -> fleet_pb2.GetStatusResponse:
        """Everything that `quakegrid status` shows of the fleet."""
        return self._statuses.status(time.monotonic())

    def recent_status(self) -> fleet_pb2.GetStatusResponse:
        """The same for those who watch, a moment old at most."""
        return self._statuses.recent(time.monotonic())

    # --- what the parts tell each other

    def _perform(self, action: core.Action) -> None:
        """Do what the fleet core decides; the parts that do it hand their own events to the loop."""
        self.events.on_action(action)
        self._actions.perform(action)

    @guarded
    def _on_output(self, output: orders_pb2.WorkerOutput) -> None:
        session = self._sessions.get(output.session_id)
        response = session.output.admit(output, time.monotonic()) if session else None
        if session and response:
            session.events.put_nowait(response)

    async def _tell_workers(self) -> None:
        """Tell the lanes of sessions that came back early which workers these have."""
        await self.nodes.wait_until_known()
        with self._guard:
            for session_id in self._sessions:
                for message in self._reports.workers(session_id):
                    self._lanes.send(session_id, message)

    def _links_of(self, session: DriverSession) -> list[NodeLink]:
        """The links to the nodes that could be that of a session's driver."""
        return self.nodes.links_by_name(session.request.host)

    def _on_session_ended(self, session: DriverSession, is_forced: bool) -> None:
        """Let go of a session that is no more in `_sessions`."""
        request = session.request
        reason = session.end_reason or ("its driver ended before it did" if is_forced else "")
        self.events.on_session_ended(session.session_id, request.user_name, reason, len(request.job_ids))
        self._totals.on_session_ended(session)
        self._lanes.remove(session.session_id)
        self._loop.handle(core.SessionEnded(session.session_id, is_forced))
