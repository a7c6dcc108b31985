"""The workers of one session on a lane, and what each holds.

Pure. Knows how loaded each worker is, who is idle, and who has tasks waiting behind the one it runs.
The least loaded worker is found without looking at all of them.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from typing import NamedTuple

from quakegrid.errors import IllegalMoveError
from quakegrid.services.lane.tasks.events import Peer, TaskId, WorkerId

# Short tasks are handed out ahead until a worker has so much to do: enough to be busy while the next
# message travels, too little to matter in a tail.
CREDIT_S = 0.06
MAX_HELD = 200
_IDLE = -1.0


class Hold(NamedTuple):
    """A task that a worker has; `expected_s` counts as its load."""

    attempt: int
    expected_s: float


@dataclass(slots=True)
class Worker:
    """One worker; it runs the first of `held`, the others wait there."""

    worker_id: WorkerId
    peer: Peer
    node: str
    held: dict[TaskId, Hold] = field(default_factory=dict)
    recalled: set[TaskId] = field(default_factory=set)
    load_s: float = 0.0
    rank: int = 0  # another one with each change; of equally loaded workers the lowest comes first
    is_draining: bool = False
    is_greeted: bool = False  # it is about to say what it has

    @property
    def has_waiting(self) -> bool:
        """Whether a task waits behind the one that runs, and was not asked back yet."""
        return len(self.held) > 1 + len(self.recalled)

    def last_waiting(self) -> TaskId:
        """The last of the waiting tasks that was not asked back."""
        return next(task_id for task_id in reversed(self.held) if task_id not in self.recalled)


class Crew:
    """The workers of one session."""

    def __init__(self) -> None:
        self.workers: dict[WorkerId, Worker] = {}
        self._least: list[tuple[float, int, WorkerId]] = []  # a heap, with entries that are outdated
        self._idle: set[WorkerId] = set()
        self._waiting: dict[WorkerId, Worker] = {}  # by when they last changed
        self._recalled_count = 0
        self._change_count = 0

    def add(self, worker: Worker) -> None:
        """Take in a worker that holds nothing yet."""
        self.workers[worker.worker_id] = worker
        self._changed(worker)
        # Those that have not been busy yet come last, in their order.
        worker.rank = self._change_count
        heapq.heappush(self._least, (_IDLE, worker.rank, worker.worker_id))

    def remove(self, worker_id: WorkerId) -> Worker | None:
        """Let go of a worker, if it is there."""
        worker = self.workers.pop(worker_id, None)
        if worker is not None:
            self._idle.discard(worker_id)
            self._waiting.pop(worker_id, None)
            self._recalled_count -= len(worker.recalled)
        return worker

    def drain(self, worker: Worker) -> None:
        """Give a worker nothing more."""
        worker.is_draining = True
        self._changed(worker)

    def greet(self, worker_id: WorkerId) -> None:
        """Give a worker, if it is there, nothing until it has said what it has."""
        worker = self.workers.get(worker_id)
        if worker is not None:
            worker.is_greeted = True
            self._changed(worker)

    def welcome(self, worker: Worker) -> None:
        """A worker has said what it has."""
        if worker.is_greeted:
            worker.is_greeted = False
            self._changed(worker)

    def hold(self, worker: Worker, task_id: TaskId, hold: Hold) -> None:
        """Hand a task to a worker."""
        worker.held[task_id] = hold
        worker.load_s += hold.expected_s
        self._changed(worker)

    def release(self, worker: Worker, task_id: TaskId) -> None:
        """Take a task from a worker: it is done, or was given back."""
        expected_s = worker.held.pop(task_id).expected_s
        if task_id in worker.recalled:
            worker.recalled.discard(task_id)
            self._recalled_count -= 1
        if worker.held and expected_s < math.inf:
            worker.load_s -= expected_s
        else:  # the difference of infinities is no number
            worker.load_s = sum([hold.expected_s for hold in worker.held.values()])
        self._changed(worker)

    def find_room(self, expected_s: float) -> Worker | None:
        """The least loaded worker, if it may get a task that should take so long.

        Of several the one that was busy last: its caches, and its place on a core, are still warm.
        """
        while self._least:
            if not self._is_current(self._least[0]):
                heapq.heappop(self._least)
                continue
            load_s, _rank, worker_id = self._least[0]
            worker = self.workers[worker_id]
            is_room = load_s == _IDLE or (load_s + expected_s <= CREDIT_S and len(worker.held) < MAX_HELD)
            return worker if is_room else None
        return None

    def find_recall(self) -> tuple[Worker, TaskId] | None:
        """A task to ask back while somebody is idle, from the worker where nothing changed for longest."""
        if len(self._idle) <= self._recalled_count or not self._waiting:
            return None
        worker = next(iter(self._waiting.values()))
        task_id = worker.last_waiting()
        worker.recalled.add(task_id)
        self._recalled_count += 1
        if not worker.has_waiting:
            del self._waiting[worker.worker_id]
        return worker, task_id

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        for worker in self.workers.values():
            if worker.recalled - worker.held.keys():
                raise IllegalMoveError(f"{worker} was asked for what it does not hold")
            load_s = sum(hold.expected_s for hold in worker.held.values())
            if not math.isclose(worker.load_s, load_s, abs_tol=1e-6):
                raise IllegalMoveError(f"{worker} holds tasks of {load_s} s")

    def _changed(self, worker: Worker) -> None:
        worker_id, held = worker.worker_id, worker.held
        self._change_count += 1
        rank = worker.rank = -self._change_count
        self._waiting.pop(worker_id, None)
        if len(held) > 1 + len(worker.recalled):  # `has_waiting`
            self._waiting[worker_id] = worker
        if worker.is_draining or worker.is_greeted:
            self._idle.discard(worker_id)
            return
        load_s = _IDLE
        if held:
            self._idle.discard(worker_id)
            load_s = worker.load_s
        else:
            self._idle.add(worker_id)
        heapq.heappush(self._least, (load_s, rank, worker_id))
        if len(self._least) > 4 * len(self.workers) + 64:
            self._least = [entry for entry in self._least if self._is_current(entry)]
            heapq.heapify(self._least)

    def _is_current(self, entry: tuple[float, int, WorkerId]) -> bool:
        worker = self.workers.get(entry[2])
        return worker is not None and worker.rank == entry[1]
