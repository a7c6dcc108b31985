"""Ends sessions: when their driver asks, when it is gone, at an abort, or when they cannot go on.

The first reason stays. The driver is told, and has a moment to end by itself; then its agent ends it. The
session ends even if the agent or the dbserver does not answer. Runs in the
broker's event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from quakegrid.access.principals import PrincipalRole, certified_by
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.jobs.states import JobState
from quakegrid.services.broker.drivers.absence import DriverProcesses
from quakegrid.services.broker.drivers.job_ends import JobEnds
from quakegrid.services.broker.drivers.session import DriverSession, Events

log = logging.getLogger("quakegrid.broker")
ABORT_GRACE_S = 2.0
# A driver that is told of an abort ends its jobs, too, but does not know who aborted them. So the broker ends
# them in the database first, if the dbserver answers in this time.
HEAD_START_S = 0.5
# How long the answer to an abort waits until the states of the jobs are set. They are set in any case.
STATE_PATIENCE_S = 5.0
# How many ended sessions are remembered, to tell the reason to a driver that did not hear of the end.
REMEMBERED_SESSIONS = 1000


class SessionEnds:
    """Ends the sessions of one broker.

    Args:
        sessions: the open ones; a session that ends is taken out.
        processes: waits for drivers, and kills those that do not react.
        job_ends: ends jobs in the database.
        on_ended: called with each session that has ended, and whether its workers are to be killed at once.
        spawn: keeps a task running.
    """

    def __init__(
        self,
        sessions: dict[int, DriverSession],
        processes: DriverProcesses,
        *,
        job_ends: JobEnds,
        on_ended: Callable[[DriverSession, bool], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._sessions, self._processes, self._job_ends = sessions, processes, job_ends
        self._on_ended, self._spawn = on_ended, spawn
        self.stopping = asyncio.Event()
        # Why sessions ended, by their ids.
        self.reasons: dict[int, str] = {}

    def close(self, session_id: int) -> None:
        """End a session as its driver wants; the driver has given its jobs their states."""
        session = self._sessions.get(session_id)
        if session:
            self._end(session, is_wanted=True)

    def on_stream_ended(self, session: DriverSession, events: Events) -> None:
        """Wait for a driver whose stream has ended, or end its session."""
        if session.events is not events or session.session_id not in self._sessions:
            return  # the session has another stream, or was closed
        if self.stopping.is_set() or session.end_reason:
            self._end(session)
        else:
            log.warning("session_stream_broke session=%d driver=%s", session.session_id, session.where)
            self._spawn(self._await_driver(session, events))

    def fail(self, session_id: int, reason: str) -> None:
        """End a session that cannot go on."""
        session = self._sessions.get(session_id)
        if session is None or not session.end_as(JobState.FAILED, reason):
            return
        failed = sessions_pb2.SessionFailed(reason=reason)
        session.tell(sessions_pb2.OpenSessionResponse(failed=failed))
        self._spawn(self._await_end(session))

    def fail_certified(self, beginnings: frozenset[str]) -> None:
        """End the sessions of drivers that were certified for nodes which are shut out.

        Args:
            beginnings: of the ids of such drivers.
        """
        drivers = {each.session_id: each.principal for each in self._sessions.values() if beginnings}
        for session_id, principal in drivers.items():
            if principal.role is PrincipalRole.DRIVER and certified_by(principal) in beginnings:
                self.fail(session_id, "the node that started the calculation was shut out")

    def abort(self, session: DriverSession, reason: str) -> None:
        """Begin to end a session whose jobs are aborted. This cannot be undone."""
        if session.end_as(JobState.ABORTED, reason):
            self._job_ends.end(session.request.job_ids, JobState.ABORTED, reason)
            self._spawn(self._abort(session))

    async def wait(self, session: DriverSession) -> None:
        """Wait until a session that is ending has ended, and for a while for the states of its jobs."""
        await session.ended.wait()  # `_await_end` ends it
        await self._job_ends.wait(session.request.job_ids, STATE_PATIENCE_S)

    async def stop(self, timeout_s: float) -> None:
        """End all sessions, and wait until they have ended."""
        self.stopping.set()
        sessions = list(self._sessions.values())
        for session in sessions:
            self.fail(session.session_id, "the broker was stopped")
        if sessions:
            waits = [asyncio.ensure_future(self.wait(session)) for session in sessions]
            _, pending = await asyncio.wait(waits, timeout=timeout_s)
            for each in pending:
                each.cancel()

    async def _abort(self, session: DriverSession) -> None:
        await self._job_ends.wait(session.request.job_ids, HEAD_START_S)
        aborted = sessions_pb2.SessionAborted(reason=session.end_reason)
        session.tell(sessions_pb2.OpenSessionResponse(aborted=aborted))
        await self._await_end(session)

    async def _await_end(self, session: DriverSession) -> None:
        """Give the driver time to end by itself; then its node's agent ends it."""
        try:
            async with asyncio.timeout(ABORT_GRACE_S):
                await session.ended.wait()
        except TimeoutError:
            self._end(session)
            self._processes.kill(session)

    async def _await_driver(self, session: DriverSession, events: Events) -> None:
        """Keep a session until its driver comes back; end the session if the driver will not."""
        reason = await self._processes.await_end(session, events)
        if reason and session.events is events:
            session.end_as(JobState.FAILED, reason)
            self._end(session)
            self._processes.kill(session)

    def _end(self, session: DriverSession, *, is_wanted: bool = False) -> None:
        """Stop the workers of a session, and end the jobs that its driver did not end."""
        if self._sessions.pop(session.session_id, None) is None:
            return
        is_orderly = is_wanted and not session.end_reason
        reason = session.end_reason or f"the driver on {session.where} ended before its calculation did"
        log.info("session_ended session=%d in_order=%s", session.session_id, is_orderly)
        self._on_ended(session, not is_orderly)
        session.placed.set()
        session.ended.set()
        session.events.put_nowait(None)
        told = "its driver closed it" if is_orderly else reason
        self.reasons[session.session_id] = f"the session has ended: {told}"
        if len(self.reasons) > REMEMBERED_SESSIONS:
            del self.reasons[next(iter(self.reasons))]
        if not is_orderly:
            self._job_ends.end(session.request.job_ids, session.end_state, reason)
