"""One session on a lane: its tasks, its queue and its crew, and the rules by which tasks move.

Pure. The scheduler turns events into calls of this; a task is queued, leased to one worker, or gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from quakegrid.errors import IllegalMoveError
from quakegrid.jobs.task_durations import TaskDurations
from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.lane.tasks.crew import Crew, Hold, Worker
from quakegrid.services.lane.tasks.events import (
    Action,
    DrainAsked,
    DropPayloads,
    FailTask,
    KillWorker,
    Lease,
    Peer,
    SendTask,
    SessionId,
    StopWorker,
    TakeBack,
    TaskId,
    TellDeath,
    WorkerGreeted,
    WorkerId,
)
from quakegrid.services.lane.tasks.overdue import OverdueWatch
from quakegrid.services.lane.tasks.queue import TaskQueue

# Workers that a task may lose through no fault of its own: with their node, by orders of people, while they
# drain. Nobody can tell a task that brings nodes down from one that is unlucky, so it is given up after so
# many, and its attempts. The bound is well above the attempts, for tasks of hours on nodes that a scheduler
# takes away; a task that is to blame takes so many nodes with it, and its attempts, one after the other.
MAX_EXCUSED = 10


@dataclass(slots=True)
class Task:
    """A task that the driver waits for; without a holder it is in the queue."""

    task_id: TaskId
    operation: str
    payload: object
    weight: float
    expected_s: float
    max_attempts: int
    attempt: int = 0
    holder: WorkerId | None = None
    reasons: tuple[str, ...] = ()
    excused_count: int = 0

    def is_leased_to(self, worker_id: WorkerId, attempt: int) -> bool:
        """Whether this is the current lease."""
        return self.holder == worker_id and self.attempt == attempt


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


@dataclass(slots=True)
class LaneSession:
    """The state of one session; `gone` and `draining` remember workers that may still greet."""

    session_id: SessionId
    max_attempts: int
    driver: Peer | None = None
    is_full: bool = False
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    queue: TaskQueue = field(default_factory=TaskQueue)
    crew: Crew = field(default_factory=Crew)
    durations: TaskDurations = field(default_factory=TaskDurations)
    overdue: OverdueWatch = field(default_factory=OverdueWatch)
    gone: set[WorkerId] = field(default_factory=set)
    draining: set[WorkerId] = field(default_factory=set)
    done_count: int = 0
    failed_count: int = 0
    requeued_count: int = 0
    dropped_count: int = 0

    def counts(self) -> Counts:
        """The counters."""
        busy = tuple(worker.worker_id for worker in self.crew.workers.values() if worker.held)
        queued, running = len(self.queue), len(self.tasks) - len(self.queue)
        done, requeued, dropped = self.done_count, self.requeued_count, self.dropped_count
        return Counts(queued, running, done, requeued, dropped, busy, self.failed_count)

    def lease(self, task: Task) -> Lease:
        """The current lease of a task."""
        return Lease(self.session_id, task.task_id, task.attempt)

    def expected_s(self, task: Task) -> float:
        """What a task should take: as its driver says, else as others of its kind took, else long."""
        return task.expected_s or self.durations.known_s.get(task.operation, math.inf)

    def release(self, worker_id: WorkerId, lease: Lease) -> Task | None:
        """Free the place of a lease at its worker; gives its task if the lease is the current one."""
        worker = self.crew.workers.get(worker_id)
        hold = worker.held.get(lease.task_id) if worker else None
        if worker and hold and hold.attempt == lease.attempt:
            self.crew.release(worker, lease.task_id)
        task = self.tasks.get(lease.task_id)
        return task if task and task.is_leased_to(worker_id, lease.attempt) else None

    def requeue(self, task: Task) -> None:
        """Put a leased task back, before others of its weight."""
        task.holder = None
        self.queue.push(task.task_id, task.weight, is_first=True)

    def hold_back(self, event: WorkerGreeted | DrainAsked) -> list[Action]:
        """Give a worker nothing more, or nothing until it has said what it has."""
        if isinstance(event, DrainAsked):
            return self.drain(event.worker_id)
        self.crew.greet(event.worker_id)
        return []

    def drain(self, worker_id: WorkerId) -> list[Action]:
        """Let a worker end after what it holds, also one that has not joined yet."""
        self.draining.add(worker_id)
        worker = self.crew.workers.get(worker_id)
        if worker is None or worker.is_draining:
            return []
        self.crew.drain(worker)
        return [StopWorker(worker.peer, self.session_id)]

    def tell_death(self, end: WorkerEnd) -> list[Action]:
        """What the driver is to know of a worker that ended without request, or in the middle of a task."""
        worker = self.crew.workers.get(WorkerId(end.worker_id))
        held = worker.held if worker else {}
        # What a drained one seems to hold may be on its way back; one that was killed for people runs it.
        is_drained = end.worker_id in self.draining and not end.is_blameless
        is_expected = end.is_clean and (is_drained or not held)
        if is_expected or self.driver is None or end.worker_id in self.gone:
            return []
        leases = tuple(Lease(self.session_id, task_id, hold.attempt) for task_id, hold in held.items())
        task = self.tasks.get(leases[0].task_id) if leases else None
        return [TellDeath(self.driver, end, leases, task.operation if task else "")]

    def lose_worker(self, end: WorkerEnd) -> list[Action]:
        """Try again what a worker held when it died."""
        worker_id = WorkerId(end.worker_id)
        # One that drains and ends in order has given back what it had not begun, perhaps in vain.
        is_excusable = end.is_blameless or (end.is_clean and worker_id in self.draining)
        self.gone.add(worker_id)
        self.draining.discard(worker_id)
        worker = self.crew.remove(worker_id)
        if worker is None:
            return []
        actions: list[Action] = []
        is_alone = len(worker.held) == 1
        overdue_id = self.overdue.forget(worker_id)
        for task_id, hold in reversed(worker.held.items()):  # `requeue` turns them round again
            task = self.tasks.get(task_id)
            if task is None or not task.is_leased_to(worker_id, hold.attempt):
                continue  # cancelled
            if overdue_id is not None:  # what waited behind the task that ran too long is not to blame
                is_suspect = is_blamed = task_id == overdue_id
            else:
                is_excused = is_excusable and task.excused_count < MAX_EXCUSED
                task.excused_count += is_excused
                is_suspect = not is_excused
                is_blamed = is_suspect and is_alone
            if is_blamed:
                task.reasons = (*task.reasons, f"attempt {task.attempt} on {worker.node}: {end.words}")
            if is_suspect:
                task.expected_s = math.inf  # from now on alone with its worker: the next blame is right
            actions += self._retry(task)
        return actions

    def _retry(self, task: Task) -> list[Action]:
        if len(task.reasons) < task.max_attempts:
            self.requeued_count += 1
            self.requeue(task)
            return []
        del self.tasks[task.task_id]
        self.failed_count += 1
        if self.driver is None:
            return [DropPayloads((task.payload,))]
        return [FailTask(self.driver, self.lease(task), task.payload, task.operation, task.reasons)]

    def cancel(self, task_id: TaskId) -> list[Action]:
        """Forget a task; if it waits at a worker it is not run."""
        task = self.tasks.pop(task_id, None)
        if task is None:
            return []
        dropped = DropPayloads((task.payload,))
        if task.holder is None:
            self.queue.discard(task_id, task.weight)
            return [dropped]
        return [dropped, TakeBack(self.crew.workers[task.holder].peer, self.lease(task))]

    def reconcile(self, worker: Worker, held: tuple[Lease, ...]) -> list[Action]:
        """Make our books agree with what a worker says that it has."""
        self.crew.welcome(worker)
        attempts = {lease.task_id: lease.attempt for lease in held}
        for task_id, hold in reversed(list(worker.held.items())):
            if attempts.get(task_id) == hold.attempt:
                continue
            # It was lost on the way there, or its outcome on the way back.
            task = self.release(worker.worker_id, Lease(self.session_id, task_id, hold.attempt))
            if task is not None:
                self.requeued_count += 1
                self.requeue(task)
        actions: list[Action] = []
        for lease in held:
            task = self.tasks.get(lease.task_id)
            if task is not None and task.holder is None and lease.attempt >= task.attempt:
                self.queue.discard(lease.task_id, task.weight)  # leased by the lane that was here before us
                task.attempt = lease.attempt
                self._hand_to(worker, task, self.expected_s(task))
            elif task is None or not task.is_leased_to(worker.worker_id, lease.attempt):
                actions.append(TakeBack(worker.peer, lease))
        return actions

    def place(self, actions: list[Action]) -> None:
        """Hand out what there is room for; when nothing waits here, ask back what waits at workers."""
        queue, crew = self.queue, self.crew
        while queue and not self.is_full:
            task = self.tasks[queue.peek()]
            expected_s = self.expected_s(task)
            worker = crew.find_room(expected_s)
            if worker is None:
                return
            queue.pop()
            task.attempt += 1
            self._hand_to(worker, task, expected_s)
            actions.append(SendTask(worker.peer, self.lease(task), task.payload))
        while not queue and (recall := crew.find_recall()):
            worker, task_id = recall
            lease = Lease(self.session_id, task_id, worker.held[task_id].attempt)
            actions.append(TakeBack(worker.peer, lease))

    def kill_overdue(self, now_s: float) -> list[Action]:
        """Have the workers killed whose tasks have run for too long."""
        running = (
            (worker.worker_id, *next(iter(worker.held.items())))
            for worker in self.crew.workers.values()
            if worker.held
        )
        leases = ((worker_id, task_id, hold.attempt) for worker_id, task_id, hold in running)
        return [KillWorker(self.session_id, worker_id) for worker_id in self.overdue.find(leases, now_s)]

    def _hand_to(self, worker: Worker, task: Task, expected_s: float) -> None:
        task.holder = worker.worker_id
        self.crew.hold(worker, task.task_id, Hold(task.attempt, expected_s))

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        queued = sorted(self.queue)
        idle = sorted(task.task_id for task in self.tasks.values() if task.holder is None)
        if queued != idle or len(self.queue) != len(queued):
            raise IllegalMoveError(f"queue {queued} is not the tasks without a holder {idle}")
        for task in self.tasks.values():
            worker = self.crew.workers.get(task.holder) if task.holder else None
            if task.holder and (worker is None or task.task_id not in worker.held):
                raise IllegalMoveError(f"{task} is leased to a worker that does not hold it")
            if worker and worker.held[task.task_id].attempt != task.attempt:
                raise IllegalMoveError(f"{worker} holds another attempt of {task}")
            if len(task.reasons) >= task.max_attempts:
                raise IllegalMoveError(f"{task} has had too many attempts")
        self.crew.check()
