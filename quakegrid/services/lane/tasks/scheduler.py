"""The scheduling core of one lane: which worker runs which task, and whose outcome counts.

Pure: events in, actions out. Knows sessions, tasks, workers and leases; refuses to know sockets,
payloads, clocks and processes. Peers are opaque byte strings, payloads opaque objects of the edge.

A task is queued, leased to one worker, or gone. `(session, task, attempt)` is the lease; an outcome
whose lease is not the current one is dropped and counted, so that outputs are delivered once or not
at all. Long tasks go to idle workers only; short ones ahead of time, to be asked back when somebody idles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import assert_never

from quakegrid.errors import IllegalMoveError
from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.lane.tasks.crew import Worker
from quakegrid.services.lane.tasks.events import (
    Action,
    ConfirmJoin,
    DeliverOutcome,
    DrainAsked,
    DriverFilled,
    DriverJoined,
    DropPayloads,
    Event,
    FailTask,
    ForgetSession,
    Lease,
    OutcomeArrived,
    Peer,
    Refuse,
    SessionClosed,
    SessionEvent,
    SessionId,
    SessionOpened,
    StopWorker,
    TaskReturned,
    TasksCancelled,
    TaskSubmitted,
    TimePassed,
    WorkerGreeted,
    WorkerJoined,
)
from quakegrid.services.lane.tasks.overdue import OverdueWatch
from quakegrid.services.lane.tasks.session import Counts, LaneSession, Task

# Of a session at once: twice what any driver of ours sends (`task_window.py` of `quakegrid/session`). So many
# tasks cost a lane some 250 MB beside their payloads.
MAX_TASKS = 500_000
_TOO_MANY = f"the lane keeps {MAX_TASKS} tasks of a session at once at most, and this driver sent more"


class Scheduler:
    """All sessions of one lane."""

    def __init__(self) -> None:
        self._sessions: dict[SessionId, LaneSession] = {}
        self._waiting: set[SessionId] = set()  # those for which there may be something to place
        self._look_s = math.inf  # when to look for tasks that run for too long

    @property
    def session_ids(self) -> list[SessionId]:
        """The open sessions."""
        return list(self._sessions)

    def task_count(self, session_ids: Iterable[SessionId]) -> int:
        """Tasks of open sessions that their drivers wait for."""
        return sum([len(self._sessions[session_id].tasks) for session_id in session_ids])

    def counts(self, session_id: SessionId) -> Counts:
        """Counters of an open session."""
        return self._sessions[session_id].counts()

    def handle(self, event: Event, now_s: float) -> list[Action]:
        """Take one event; `place` must follow when the turn's events are in."""
        match event:
            case TaskSubmitted():
                return self._on_task_submitted(event)
            case OutcomeArrived():
                return self._on_outcome_arrived(event)
            case WorkerJoined():
                return self._on_worker_joined(event)
            case TaskReturned():
                return self._on_task_returned(event)
            case WorkerEnd():
                return self._on_worker_ended(event)
            case WorkerGreeted() | DrainAsked():
                return self._on_worker_held_back(event)
            case _:
                return self._handle_rare(event, now_s)

    def _handle_rare(self, event: SessionEvent, now_s: float) -> list[Action]:
        """Take an event of a session as a whole."""
        match event:
            case SessionOpened():
                return self._on_session_opened(event, now_s)
            case SessionClosed():
                return self._on_session_closed(event)
            case DriverJoined():
                return self._on_driver_joined(event)
            case TasksCancelled():
                return self._on_tasks_cancelled(event)
            case DriverFilled():
                return self._on_driver_filled(event)
            case TimePassed():
                return self._on_time_passed(now_s)
            case _ as unreachable:
                assert_never(unreachable)

    def place(self) -> list[Action]:
        """Give queued tasks to workers with room, and ask back what waits while somebody idles."""
        actions: list[Action] = []
        for session_id in self._waiting:
            session = self._sessions.get(session_id)
            if session is not None and session.driver is not None:
                session.place(actions)
        self._waiting.clear()
        return actions

    def next_deadline_s(self) -> float | None:
        """When `TimePassed` is wanted; None if no task has a time-out."""
        return self._look_s if self._look_s < math.inf else None

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        for session in self._sessions.values():
            session.check()

    def _on_session_opened(self, event: SessionOpened, now_s: float) -> list[Action]:
        if event.session_id in self._sessions:
            raise IllegalMoveError(f"session {event.session_id} is open on this lane already: {event}")
        watch = OverdueWatch(event.task_timeout_s)
        self._sessions[event.session_id] = LaneSession(event.session_id, event.max_attempts, overdue=watch)
        if event.task_timeout_s < math.inf:
            self._look_s = now_s
        return []

    def _on_time_passed(self, now_s: float) -> list[Action]:
        sessions = self._sessions.values()
        self._look_s = now_s + min((each.overdue.look_interval_s for each in sessions), default=math.inf)
        return [kill for each in sessions for kill in each.kill_overdue(now_s)]

    def _on_session_closed(self, event: SessionClosed) -> list[Action]:
        session = self._sessions.pop(event.session_id, None)
        if session is None:
            return []
        stops: list[Action] = [StopWorker(worker.peer) for worker in session.crew.workers.values()]
        payloads = tuple(task.payload for task in session.tasks.values())
        return [*stops, DropPayloads(payloads), ForgetSession(event.session_id)]

    def _on_driver_joined(self, event: DriverJoined) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is None:
            return [_refuse_session(event.peer, event.session_id)]
        session.driver = event.peer
        session.is_full = False
        self._waiting.add(event.session_id)
        return [ConfirmJoin(event.peer, event.session_id)]

    def _on_task_submitted(self, event: TaskSubmitted) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is None:
            return [DropPayloads((event.payload,)), _refuse_session(event.peer, event.session_id)]
        if event.task_id in session.tasks:
            return [DropPayloads((event.payload,))]  # told again after a reconnection
        if len(session.tasks) >= MAX_TASKS:
            lease = Lease(event.session_id, event.task_id, 0)
            return [FailTask(event.peer, lease, event.payload, event.operation, (_TOO_MANY,))]
        task = session.tasks[event.task_id] = Task(
            event.task_id,
            event.operation,
            event.payload,
            event.weight,
            event.expected_s,
            event.max_attempts or session.max_attempts,
        )
        session.queue.push(event.task_id, task.weight)
        self._waiting.add(event.session_id)
        return []

    def _on_tasks_cancelled(self, event: TasksCancelled) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is None:
            return []
        return [action for task_id in event.task_ids for action in session.cancel(task_id)]

    def _on_driver_filled(self, event: DriverFilled) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is not None:
            session.is_full = event.is_full
            self._waiting.add(event.session_id)
        return []

    def _on_worker_joined(self, event: WorkerJoined) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is None or event.worker_id in session.gone:
            reason = f"worker {event.worker_id} has no session {event.session_id} here"
            return [Refuse(event.peer, reason, is_unknown_session=session is None)]
        self._waiting.add(event.session_id)
        worker = session.crew.workers.get(event.worker_id)
        if worker is None:
            worker = Worker(event.worker_id, event.peer, event.node)
            session.crew.add(worker)
            if event.worker_id in session.draining:
                session.crew.drain(worker)
        worker.peer = event.peer
        actions = session.reconcile(worker, event.held)
        return [*actions, StopWorker(event.peer, event.session_id)] if worker.is_draining else actions

    def _on_outcome_arrived(self, event: OutcomeArrived) -> list[Action]:
        lease = event.lease
        session = self._sessions.get(lease.session_id)
        if session is None:
            return []
        self._waiting.add(lease.session_id)
        worker = session.crew.workers.get(event.worker_id)
        # One that is drained ends when it knows that we have its outcome.
        actions: list[Action] = (
            [StopWorker(worker.peer, lease.session_id)] if worker and worker.is_draining else []
        )
        task = session.release(event.worker_id, lease)
        if task is None or session.driver is None:
            session.dropped_count += 1
            if task is not None:  # nobody takes it now
                session.requeue(task)
            return actions
        del session.tasks[lease.task_id]
        session.done_count += 1
        session.durations.learn(task.operation, event.duration_s)
        return [DeliverOutcome(session.driver, lease, task.payload), *actions]

    def _on_task_returned(self, event: TaskReturned) -> list[Action]:
        session = self._sessions.get(event.lease.session_id)
        if session is None:
            return []
        self._waiting.add(event.lease.session_id)
        task = session.release(event.worker_id, event.lease)
        if task is not None:
            session.requeue(task)
        return []

    def _on_worker_ended(self, end: WorkerEnd) -> list[Action]:
        session = self._sessions.get(SessionId(end.session_id))
        if session is None:
            return []
        self._waiting.add(session.session_id)
        return [*session.tell_death(end), *session.lose_worker(end)]

    def _on_worker_held_back(self, event: WorkerGreeted | DrainAsked) -> list[Action]:
        session = self._sessions.get(event.session_id)
        return session.hold_back(event) if session is not None else []


def _refuse_session(peer: Peer, session_id: SessionId) -> Refuse:
    return Refuse(peer, f"session {session_id} is not open on this lane", is_unknown_session=True)
