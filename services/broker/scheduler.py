"""The scheduling core of one lane: which worker runs which task, and whose outcome counts.

Pure: events in, actions out. Knows sessions, tasks, workers and leases; refuses to know sockets,
payloads, clocks and processes. Peers are opaque byte strings that the edge gave.

A task is queued, leased to one worker, or gone. `(session, task, attempt)` is the lease; an outcome
whose lease is not the current one is dropped and counted, so that outputs are delivered once or not
at all.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import assert_never

from quakegrid.errors import IllegalMoveError
from services.broker.lane_events import (
    Action,
    DeliverOutcome,
    DrainAsked,
    DriverJoined,
    Event,
    FailTask,
    ForgetSession,
    Lease,
    OutcomeArrived,
    Peer,
    Refuse,
    SendTask,
    SessionClosed,
    SessionId,
    SessionOpened,
    StopWorker,
    TaskId,
    TaskSubmitted,
    WorkerId,
    WorkerJoined,
    WorkerLost,
)


@dataclass(slots=True)
class _Task:
    task_id: TaskId
    weight: float
    operation: str
    max_attempts: int
    is_short: bool = False
    attempt: int = 0
    holder: WorkerId | None = None
    reasons: tuple[str, ...] = ()


@dataclass(slots=True)
class _Worker:
    worker_id: WorkerId
    peer: Peer
    node: str
    credit_count: int
    held: dict[TaskId, int] = field(default_factory=dict)
    is_draining: bool = False


@dataclass(slots=True)
class _Session:
    session_id: SessionId
    max_attempts: int
    driver: Peer | None = None
    tasks: dict[TaskId, _Task] = field(default_factory=dict)
    queue: list[tuple[float, TaskId]] = field(default_factory=list)
    workers: dict[WorkerId, _Worker] = field(default_factory=dict)
    gone: set[WorkerId] = field(default_factory=set)
    draining: set[WorkerId] = field(default_factory=set)
    done_count: int = 0
    failed_count: int = 0
    requeued_count: int = 0
    dropped_count: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """What a session looks like now, for status and progress."""

    queued_count: int
    running_count: int
    done_count: int
    requeued_count: int
    dropped_count: int
    busy_worker_ids: tuple[WorkerId, ...]
    failed_count: int = 0


class Scheduler:
    """All sessions of one lane."""

    def __init__(self) -> None:
        self._sessions: dict[SessionId, _Session] = {}
        self._waiting: set[SessionId] = set()

    @property
    def session_ids(self) -> list[SessionId]:
        """The open sessions."""
        return list(self._sessions)

    def counts(self, session_id: SessionId) -> Counts:
        """Counters of an open session."""
        session = self._sessions[session_id]
        busy = tuple(worker.worker_id for worker in session.workers.values() if worker.held)
        queued = sum(task.holder is None for task in session.tasks.values())
        running = len(session.tasks) - queued
        done, requeued, dropped = session.done_count, session.requeued_count, session.dropped_count
        return Counts(queued, running, done, requeued, dropped, busy, session.failed_count)

    def handle(self, event: Event) -> list[Action]:
        """Take one event; `place` must follow when the turn's events are in."""
        match event:
            case SessionOpened():
                return self._on_session_opened(event)
            case SessionClosed():
                return self._on_session_closed(event)
            case DriverJoined():
                return self._on_driver_joined(event)
            case TaskSubmitted():
                return self._on_task_submitted(event)
            case WorkerJoined():
                return self._on_worker_joined(event)
            case OutcomeArrived():
                return self._on_outcome_arrived(event)
            case WorkerLost():
                return self._on_worker_lost(event)
            case DrainAsked():
                return self._on_drain_asked(event)
            case _ as unreachable:
                assert_never(unreachable)

    def place(self) -> list[Action]:
        """Give queued tasks to workers with a free credit, the least loaded first."""
        actions: list[Action] = []
        for session_id in self._waiting:
            session = self._sessions.get(session_id)
            if session is not None:
                _place_session(session, actions)
        self._waiting.clear()
        return actions

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        for session in self._sessions.values():
            _check_session(session)

    def _on_session_opened(self, event: SessionOpened) -> list[Action]:
        if event.session_id in self._sessions:
            raise IllegalMoveError(f"session {event.session_id} is open on this lane already: {event}")
        self._sessions[event.session_id] = _Session(event.session_id, event.max_attempts)
        return []

    def _on_session_closed(self, event: SessionClosed) -> list[Action]:
        session = self._sessions.pop(event.session_id, None)
        if session is None:
            return []
        stops: list[Action] = [StopWorker(worker.peer) for worker in session.workers.values()]
        return [*stops, ForgetSession(event.session_id)]

    def _on_driver_joined(self, event: DriverJoined) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is None:
            return [Refuse(event.peer, f"session {event.session_id} is not open on this lane")]
        session.driver = event.peer
        return []

    def _on_task_submitted(self, event: TaskSubmitted) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is None:
            return [Refuse(event.peer, f"session {event.session_id} is not open on this lane")]
        if event.task_id in session.tasks:
            return []  # told again after a reconnection
        max_attempts = event.max_attempts or session.max_attempts
        task = _Task(event.task_id, event.weight or 1.0, event.operation, max_attempts, event.is_short)
        session.tasks[event.task_id] = task
        self._enqueue(session, event.task_id)
        return []

    def _on_worker_joined(self, event: WorkerJoined) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is None or event.worker_id in session.gone:
            return [Refuse(event.peer, f"worker {event.worker_id} has no session {event.session_id} here")]
        known = session.workers.get(event.worker_id)
        if known is not None:
            known.peer = event.peer
            return []
        worker = _Worker(event.worker_id, event.peer, event.node, max(1, event.credit_count))
        session.workers[event.worker_id] = worker
        self._waiting.add(event.session_id)
        if event.worker_id in session.draining:
            worker.is_draining = True
            return [StopWorker(event.peer)]
        return []

    def _on_outcome_arrived(self, event: OutcomeArrived) -> list[Action]:
        lease = event.lease
        session = self._sessions.get(lease.session_id)
        if session is None:
            return []
        worker = session.workers.get(event.worker_id)
        task = session.tasks.get(lease.task_id)
        is_current = task is not None and task.holder == event.worker_id and task.attempt == lease.attempt
        if worker is None or not is_current or session.driver is None:
            session.dropped_count += 1
            return []
        del worker.held[lease.task_id]
        del session.tasks[lease.task_id]
        session.done_count += 1
        self._waiting.add(lease.session_id)
        return [DeliverOutcome(session.driver, lease)]

    def _on_worker_lost(self, event: WorkerLost) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is None:
            return []
        session.gone.add(event.worker_id)
        worker = session.workers.pop(event.worker_id, None)
        if worker is None:
            return []
        actions: list[Action] = []
        is_blamed = len(worker.held) == 1
        for task_id in worker.held:
            task = session.tasks[task_id]
            if is_blamed:
                task.reasons = (*task.reasons, f"attempt {task.attempt} on {worker.node}: {event.reason}")
            task.is_short = False  # from now on alone with its worker, so that the next blame is right
            actions += self._retry(session, task)
        return actions

    def _retry(self, session: _Session, task: _Task) -> list[Action]:
        task.holder = None
        if len(task.reasons) < task.max_attempts:
            session.requeued_count += 1
            self._enqueue(session, task.task_id)
            return []
        del session.tasks[task.task_id]
        session.failed_count += 1
        if session.driver is None:
            return []
        lease = Lease(session.session_id, task.task_id, task.attempt)
        return [FailTask(session.driver, lease, task.operation, task.reasons)]

    def _on_drain_asked(self, event: DrainAsked) -> list[Action]:
        session = self._sessions.get(event.session_id)
        if session is None:
            return []
        session.draining.add(event.worker_id)
        worker = session.workers.get(event.worker_id)
        if worker is None or worker.is_draining:
            return []
        worker.is_draining = True
        return [StopWorker(worker.peer)]

    def _enqueue(self, session: _Session, task_id: TaskId) -> None:
        # Task ids grow, so equal weights keep the order of submission.
        heapq.heappush(session.queue, (-session.tasks[task_id].weight, task_id))
        self._waiting.add(session.session_id)


def _place_session(session: _Session, actions: list[Action]) -> None:
    if not session.queue:
        return
    free = [
        (len(worker.held), number, worker)
        for number, worker in enumerate(session.workers.values())
        if _has_room(session, worker)
    ]
    heapq.heapify(free)
    while free and session.queue:
        load, number, worker = heapq.heappop(free)
        task_id = session.queue[0][1]
        task = session.tasks[task_id]
        if load and not task.is_short:
            return  # nobody is idle, and it goes nowhere else
        heapq.heappop(session.queue)
        task.attempt += 1
        task.holder = worker.worker_id
        worker.held[task_id] = task.attempt
        actions.append(SendTask(worker.peer, Lease(session.session_id, task_id, task.attempt)))
        if _has_room(session, worker):
            heapq.heappush(free, (load + 1, number, worker))


def _has_room(session: _Session, worker: _Worker) -> bool:
    """Whether a worker may get one more: nothing waits behind a task that is not short."""
    if worker.is_draining:
        return False
    if not worker.held:
        return True
    return len(worker.held) < worker.credit_count and all(
        session.tasks[task_id].is_short for task_id in worker.held
    )


def _check_session(session: _Session) -> None:
    queued = sorted(task_id for _weight, task_id in session.queue)
    idle = sorted(task.task_id for task in session.tasks.values() if task.holder is None)
    if queued != idle:
        raise IllegalMoveError(f"queue {queued} is not the tasks without a holder {idle}")
    for worker in session.workers.values():
        if len(worker.held) > worker.credit_count:
            raise IllegalMoveError(f"{worker.worker_id} holds {worker.held}, credits {worker.credit_count}")
        for task_id, attempt in worker.held.items():
            task = session.tasks[task_id]
            if task.holder != worker.worker_id or task.attempt != attempt:
                raise IllegalMoveError(f"{worker.worker_id} holds {task_id}/{attempt}, not leased: {task}")
            if len(worker.held) > 1 and not task.is_short:
                raise IllegalMoveError(f"{worker.worker_id} holds {worker.held}, and {task} is not short")
    leased = sum(task.holder is not None for task in session.tasks.values())
    if leased != sum(len(worker.held) for worker in session.workers.values()):
        raise IllegalMoveError(f"a task of session {session.session_id} is leased to nobody")
    if any(len(task.reasons) >= task.max_attempts for task in session.tasks.values()):
        raise IllegalMoveError(f"a task of session {session.session_id} has too many attempts")
