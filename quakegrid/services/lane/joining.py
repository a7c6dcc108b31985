"""Which drivers may join their lane now, which settle first, and which must tell their tasks again.

A lane that stands in for one that died does not hand out tasks at once: workers run some of them, and tell so
as soon as they are connected again. Knows no message and sends nothing but through the `Performer`.
"""

from __future__ import annotations

from collections.abc import Iterable

from quakegrid.services.lane.codec import UnknownSessionError
from quakegrid.services.lane.mail import SessionMail
from quakegrid.services.lane.performer import Performer
from quakegrid.services.lane.tasks.events import Peer, SessionId, TaskId, WorkerId
from quakegrid.wire.v1 import lane_pb2

# A lane that stands in for one that died waits until all workers have told what they run that the session has
# by the broker's word, but no longer than so long. A new broker tells it some seconds after its start.
SETTLE_S = 10.0
# Sessions of which a task was refused, far more than a lane has. Of those beyond, the oldest is forgotten.
MAX_REFUSED_SESSIONS = 10_000


class Joining:
    """The drivers of one lane that are about to join.

    Args:
        performer: lets them join; its sessions are only read here.
    """

    def __init__(self, performer: Performer) -> None:
        self._performer, self._sessions = performer, performer.sessions
        # Drivers that brought tasks along, and when they join.
        self._settling: dict[SessionId, tuple[float, Peer]] = {}
        # The last task of each session that was refused, as the broker had not named the session yet.
        self._refused: dict[SessionId, TaskId] = {}

    @property
    def deadlines_s(self) -> list[float]:
        """When to call `end_settling`, for each driver that settles."""
        return [end_s for end_s, _ in self._settling.values()]

    def open(self, session_id: SessionId, turned_away: Iterable[Peer]) -> None:
        """The broker named a session; workers that were turned away before are to tell what they have."""
        self._settling.pop(session_id, None)
        for peer in turned_away:
            self._performer.greet(peer)

    def await_workers(self, session_id: SessionId, told: lane_pb2.SessionWorkers) -> None:
        """The broker knows workers of a session, which may be over."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.await_workers(map(WorkerId, told.worker_ids), is_last=told.is_last)

    def find_submitted(self, session_id: SessionId, task_id: TaskId) -> SessionMail:
        """The session for which a task was submitted.

        Raises:
            UnknownSessionError: it is not open here; its driver has to tell this task again before it joins.
        """
        session = self._sessions.get(session_id)
        if session is None:
            self._refused.pop(session_id, None)
            if len(self._refused) >= MAX_REFUSED_SESSIONS:
                del self._refused[next(iter(self._refused))]
            self._refused[session_id] = task_id
            raise UnknownSessionError(session_id)
        if self._refused and self._refused.get(session_id) == task_id:
            del self._refused[session_id]  # the driver tells all, in order: those before this one came, too
        return session

    def join(self, peer: Peer, session_id: SessionId) -> None:
        """A driver has told its tasks, and wants to join.

        Raises:
            UnknownSessionError: the broker named the session after a task of it was refused. Without this
                task, what a worker runs would be run again; so the driver is to tell everything again.
        """
        if self._refused.pop(session_id, None) is not None:
            raise UnknownSessionError(session_id)
        session, scheduler = self._sessions.get(session_id), self._performer.scheduler
        if session is None or session.driver is not None or not scheduler.task_count([session_id]):
            self._settling.pop(session_id, None)
            self._performer.let_join(session_id, peer)
            return
        now_s = self._performer.now_s
        end_s, _ = self._settling.get(session_id, (now_s + SETTLE_S, peer))
        self._settling[session_id] = end_s, peer

    def end_settling(self) -> None:
        """Let drivers join whose workers have told what they run, or had their time."""
        now_s = self._performer.now_s
        for session_id, (end_s, peer) in list(self._settling.items()):
            session = self._sessions.get(session_id)
            if session is None:
                del self._settling[session_id]
            elif now_s >= end_s or session.has_all_workers:
                del self._settling[session_id]
                with self._performer.contained(session_id):
                    self._performer.let_join(session_id, peer)
