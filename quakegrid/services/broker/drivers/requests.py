"""Opens sessions for drivers: new ones, ones on a new stream, and ones of an earlier broker.

Runs in the broker's event loop. Refuses requests that are invalid. The fleet core decides when a session
executes.
"""

from __future__ import annotations

import logging
import time

from quakegrid import errors
from quakegrid.access.principals import Principal
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.reports import task_history_files
from quakegrid.services.broker.drivers import session_ids
from quakegrid.services.broker.drivers.ends import SessionEnds
from quakegrid.services.broker.drivers.session import DriverSession, Rate
from quakegrid.services.broker.fleet import events as core
from quakegrid.services.broker.fleet_loop import FleetLoop
from quakegrid.services.broker.lanes.pool import LanePool
from quakegrid.services.broker.rpc import peer_input
from quakegrid.settings import lane_secrets
from quakegrid.settings.config import Settings
from quakegrid.transport.keys import lane_keys

log = logging.getLogger("quakegrid.broker")
# Far more than people open. It stops a program that opens one session after the other.
MAX_SESSIONS = 10_000
# The log names at most so many of the jobs of a session.
MAX_LOGGED_JOBS = 10


class SessionRequests:
    """Opens the sessions of one broker.

    Args:
        settings: of the cluster.
        loop: of the fleet core.
        sessions: the open ones; new sessions are added.
        ends: knows why earlier sessions have ended.
        lanes: of the broker.
    """

    def __init__(
        self,
        settings: Settings,
        loop: FleetLoop,
        sessions: dict[int, DriverSession],
        ends: SessionEnds,
        lanes: LanePool,
    ) -> None:
        self._loop, self._sessions, self._ends, self._lanes = loop, sessions, ends, lanes
        self._token_key = lane_keys.token_key(lane_secrets.of_broker(settings.state_dir))
        self._next_session_id = session_ids.first_id(
            time.time_ns() // 1_000_000, task_history_files.session_ids(task_history_files.folder(settings))
        )

    def find(self, request: sessions_pb2.OpenSessionRequest) -> DriverSession | None:
        """The session that a driver whose stream broke goes on with; None if it asks for a new one."""
        return next((each for each in self._sessions.values() if each.goes_on_with(request)), None)

    def open(self, request: sessions_pb2.OpenSessionRequest, principal: Principal) -> DriverSession:
        """Open the session of a driver. The events of the session tell when the driver may start.

        A driver whose stream broke goes on with the session that it has.

        Raises:
            StateError: one of its jobs is in another session, or its session has ended.
            UsageError: the request is invalid.
        """
        peer_input.check_session(request)
        self._check_token(request)
        known = self.find(request)
        if known:
            log.info("session_went_on session=%d", known.session_id)
            if known.placed.is_set() and not request.resumed_session_id:
                self._lanes.tell_place(known.session_id)  # the driver was told on the stream that broke
            return known
        if request.resumed_session_id in self._ends.reasons:
            raise errors.StateError(self._ends.reasons[request.resumed_session_id])
        self._check_jobs(request)
        if len(self._sessions) >= MAX_SESSIONS:
            raise errors.StateError(f"the broker has {MAX_SESSIONS} sessions, no further one can be opened")
        session_id = request.resumed_session_id or self._new_id()
        if session_id in self._sessions:
            raise errors.StateError(f"session {session_id} is open already")
        session = DriverSession(session_id, request, Rate(time.monotonic()), principal=principal)
        self._enter(session, request)
        return session

    def check_token(self, session_id: int, token: str) -> None:
        """Refuse to let somebody speak for a session who does not show its token.

        Raises:
            NotAllowedError: the token is not the session's.
        """
        if not lane_keys.is_token(token, lane_keys.session_token(self._token_key, session_id)):
            raise errors.NotAllowedError(f"session {session_id} is not this driver's")

    def _enter(self, session: DriverSession, request: sessions_pb2.OpenSessionRequest) -> None:
        session_id, is_resumed = session.session_id, bool(request.resumed_session_id)
        self._sessions[session_id] = session
        log.info(
            "session_opened session=%d jobs=%s job_count=%d resumed=%s",
            session_id,
            request.job_ids[:MAX_LOGGED_JOBS],
            len(request.job_ids),
            is_resumed,
        )
        self._loop.handle(
            core.SessionRequested(
                session_id,
                tuple(request.job_ids),
                request.is_local,
                request.max_workers,
                session.weight,
                self._loop.fleet.leftovers.workers_of(session_id) if is_resumed else None,
                dict(request.fingerprint),
                request.cores_per_worker or 1,
                request.user_name,
            )
        )
        if is_resumed:
            session.is_admitted = True
            self._lanes.resume(session_id, request.lane_port)

    def _new_id(self) -> int:
        """An id that no session has had, also none whose workers an earlier broker left."""
        left = self._loop.fleet.leftovers.session_ids()
        taken = self._sessions.keys() | self._ends.reasons.keys() | left
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
        token = lane_keys.session_token(self._token_key, request.resumed_session_id)
        if not lane_keys.is_token(request.resumed_token, token):
            raise errors.StateError(f"session {request.resumed_session_id} is not this driver's")
