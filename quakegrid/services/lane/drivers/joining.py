"""Which drivers may join their lane now, which settle first, and which must tell their tasks again.

A lane that stands in for one that died does not hand out tasks at once: workers run some of them, and tell so
as soon as they are connected again. Knows no message and sends nothing but through the `Performer`.
"""

from __future__ import annotations

from collections.abc import Iterable

from quakegrid.services.lane.codec import UnknownSessionError
from quakegrid.services.lane.drivers.greetings import Greetings, JoinKind
from quakegrid.services.lane.mail import SessionMail
from quakegrid.services.lane.peers import Peers
from quakegrid.services.lane.performer import Performer
from quakegrid.services.lane.tasks.events import Peer, SessionId, TaskId, WorkerId
from quakegrid.transport.lane_names import WorkerName
from quakegrid.wire.v1 import lane_pb2

# A lane that stands in for one that died waits until all workers have told what they run that the session has
# by the broker's word, but no longer than so long. A new broker tells it some seconds after its start.
SETTLE_S = 10.0
# Sessions of which a task was refused, far more than a lane has. Of those beyond, the oldest is forgotten.
MAX_REFUSED_SESSIONS = 10_000
TORN = "messages of the driver of session {} were lost before it joined"


class Joining:
    """The drivers of one lane that are about to join.

    Args:
        performer: lets them join; its sessions are only read here.
        peers: of the lane.
        greetings: of its drivers.
    """

    def __init__(self, performer: Performer, peers: Peers, greetings: Greetings) -> None:
        self._performer, self._sessions = performer, performer.sessions
        self._peers, self._greetings = peers, greetings
        # Drivers that brought tasks along, and when they join. None for one that is to tell everything again.
        self._settling: dict[SessionId, tuple[float, Peer | None]] = {}
        # The last task of each session that was refused, as the broker had not named the session yet.
        self._refused: dict[SessionId, TaskId] = {}

    @property
    def deadlines_s(self) -> list[float]:
        """When to call `end_settling`, for each driver that settles."""
        return [end_s for end_s, peer in self._settling.values() if peer is not None]

    def greet(self, peer: Peer) -> None:
        """Say hello to a peer, which has a new connection. A driver is to tell everything, and to join."""
        session_id = self._peers.driven_session(peer)
        if session_id is None:
            who = self._peers.known.get(peer)
            self._greet_worker(peer, SessionId(who.session_id) if who is not None else None)
            return
        if session_id in self._settling:
            self._settling[session_id] = self._settling[session_id][0], None
        self._performer.greet(peer, self._greetings.greet(peer, session_id, self._sessions))

    def open(self, session_id: SessionId, turned_away: Iterable[Peer]) -> None:
        """The broker named a session; workers that were turned away before are to tell what they have."""
        self._settling.pop(session_id, None)
        for peer in turned_away:
            self._greet_worker(peer, session_id)

    def is_late(self, peer: Peer, who: WorkerName, hello_number: int) -> bool:
        """Whether a worker says what it has in answer to an earlier hello than the last one.

        It says so again; what it is sent before that would not be among it, and count as lost.
        """
        session = self._sessions.get(SessionId(who.session_id))
        if session is None or not hello_number:
            return False
        return session.hello_numbers.get(peer, hello_number) != hello_number

    def _greet_worker(self, peer: Peer, session_id: SessionId | None) -> None:
        """Say hello to a worker, of a session if that is known, or to anybody else."""
        number = self._greetings.next_number()
        session = self._sessions.get(session_id) if session_id is not None else None
        if session is not None:
            session.hello_numbers[peer] = number
        self._performer.greet(peer, number)

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

    def join(self, peer: Peer, session_id: SessionId, *, hello_number: int, message_count: int) -> None:
        """A driver has told its tasks, and wants to join.

        It is refused, and told so, if it has to tell everything again: the session is not open, or the broker
        named it after a task of it was refused, or messages were lost with a connection. Without these tasks
        what workers run would be run again.

        Args:
            peer: the driver.
            session_id: its session.
            hello_number: of the hello that it answers; 0 from a driver that knows no numbers.
            message_count: what it has sent since the hello, or since its last join.
        """
        kind = self._greetings.judge(peer, hello_number, message_count) if hello_number else JoinKind.WHOLE
        if kind is JoinKind.UNASKED:
            self.greet(peer)
        if kind in (JoinKind.UNASKED, JoinKind.EARLIER):
            return
        session, is_refused = self._sessions.get(session_id), self._refused.pop(session_id, None) is not None
        if session is None or is_refused or kind is JoinKind.TORN:
            is_torn = kind is JoinKind.TORN and session is not None
            reason = TORN.format(session_id) if is_torn else str(UnknownSessionError(session_id))
            self._peers.refuse(peer, reason, is_unknown_session=True, is_join=True)
            return
        if session.driver is not None or not self._performer.scheduler.task_count([session_id]):
            self._settling.pop(session_id, None)
            self._performer.let_join(session_id, peer)
            return
        end_s, _ = self._settling.get(session_id, (self._performer.now_s + SETTLE_S, peer))
        self._settling[session_id] = end_s, peer

    def end_settling(self) -> None:
        """Let drivers join whose workers have told what they run, or had their time."""
        now_s = self._performer.now_s
        for session_id, (end_s, peer) in list(self._settling.items()):
            session = self._sessions.get(session_id)
            if session is None:
                del self._settling[session_id]
            elif peer is not None and (now_s >= end_s or session.has_all_workers):
                del self._settling[session_id]
                with self._performer.contained(session_id):
                    self._performer.let_join(session_id, peer)
