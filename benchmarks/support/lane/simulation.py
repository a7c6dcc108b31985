"""A lane over virtual time: the real scheduling core, workers that are played, messages that take time.

Deterministic: the same tasks give the same times. What is modelled: a lane of one thread that needs time
for each message, the way there and back, workers that run what they hold in the order it came and give
back what they have not begun, once the task that runs lets them look, and a driver that keeps what the
lane should not have yet (the real window of a driver).
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from quakegrid.services.lane.tasks import events as core
from quakegrid.services.lane.tasks.events import Lease, Peer, SessionId, TaskId, WorkerId
from quakegrid.services.lane.tasks.scheduler import Scheduler
from quakegrid.session.task_window import TaskWindow

# One way between lane and worker, and the lane's time for a message: assumed, as on a quiet local network.
LATENCY_S = 0.0005
MESSAGE_S = 50e-6
# A worker looks into its mail between tasks, and when one has run for so long.
LOOK_S = 0.1
MESSAGES_PER_TURN = 1000
SESSION = SessionId(1)
DRIVER = Peer(b"driver")

_LOOK, _STEP = 0, 1  # at the same time, mail is read before the next task begins


@dataclass(frozen=True, slots=True)
class Job:
    """Tasks of one session, submitted in this order.

    Args:
        durations_s: what each takes.
        weights: what its driver tells of each; None if it knows nothing.
        expected_s: for all of them, as in `TaskSubmitted`.
    """

    durations_s: Sequence[float]
    weights: Sequence[float] | None = None
    expected_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Run:
    """What came out.

    `makespan_s` is the end of the last task; `tail_s` when the lane had nothing to give for the first time,
    `utilisation` the part of all cores' time until then that tasks ran; `recall_count` of tasks given back.
    """

    makespan_s: float
    tail_s: float
    utilisation: float
    done_count: int
    recall_count: int


@dataclass(slots=True)
class _Worker:
    """A process that runs one task at a time."""

    waiting: deque[Lease] = field(default_factory=deque)
    running: Lease | None = None
    begin_s: float = 0.0
    end_s: float = 0.0


class Simulation:
    """One session on one lane.

    Args:
        node_cores: cores of each node; every core has a worker.
        job: what they run.
    """

    def __init__(self, node_cores: Sequence[int], job: Job) -> None:
        self._job = job
        self._scheduler = Scheduler()
        self._workers: dict[Peer, _Worker] = {}
        self._heap: list[tuple[float, int, int, Peer, Lease | None]] = []
        self._number = 0
        self._mail: list[tuple[float, int, core.Event]] = []  # for the lane, a heap by arrival
        self._window = TaskWindow()
        self._lane_s = 0.0
        self._spans: list[tuple[float, float]] = []
        self._queued_count = len(job.durations_s)
        self._recall_count = 0
        self._tail_s = 0.0
        self._window.expect_workers(sum(node_cores))
        self._submit()
        for node, count in enumerate(node_cores):
            for place in range(count):
                self._join(f"{node}.{place}", str(node))

    def run(self) -> Run:
        """Play until every task is done."""
        while self._mail or self._heap:
            if self._mail and (not self._heap or max(self._lane_s, self._mail[0][0]) <= self._heap[0][0]):
                self._turn()
            else:
                now_s, kind, _, peer, lease = heapq.heappop(self._heap)
                self._step(now_s, kind, peer, lease)
        busy_s = sum(max(0.0, min(end_s, self._tail_s) - begin_s) for begin_s, end_s in self._spans)
        return Run(
            makespan_s=max(end_s for _, end_s in self._spans),
            tail_s=self._tail_s,
            utilisation=busy_s / (len(self._workers) * self._tail_s),
            done_count=self._scheduler.counts(SESSION).done_count,
            recall_count=self._recall_count,
        )

    def _submit(self) -> None:
        """The driver has sent what its window takes when the first worker comes."""
        handle = self._scheduler.handle
        handle(core.SessionOpened(SESSION, 3), 0.0)
        handle(core.DriverJoined(SESSION, DRIVER), 0.0)
        for number in range(len(self._job.durations_s)):
            if self._window.is_open:
                self._window.send(number, 0)
                handle(self._task(number), 0.0)
            else:
                self._window.wait(number, self._weight(number))

    def _weight(self, number: int) -> float:
        return self._job.weights[number] if self._job.weights else 1.0

    def _task(self, number: int) -> core.TaskSubmitted:
        weight, expected_s = self._weight(number), self._job.expected_s
        return core.TaskSubmitted(
            SESSION, TaskId(number), DRIVER, "task", weight=weight, expected_s=expected_s
        )

    def _join(self, name: str, node: str) -> None:
        peer = Peer(name.encode())
        self._workers[peer] = _Worker()
        self._write(LATENCY_S, core.WorkerJoined(SESSION, WorkerId(name), node, peer))

    # --- the lane

    def _turn(self) -> None:
        """Handle what has arrived, then place, as the lane's loop does."""
        now_s = max(self._lane_s, self._mail[0][0])
        for _ in range(MESSAGES_PER_TURN):
            if not self._mail or self._mail[0][0] > now_s:
                break
            now_s += MESSAGE_S
            _, _, event = heapq.heappop(self._mail)
            if isinstance(event, core.TaskReturned):
                self._queued_count += 1
                self._recall_count += 1
            self._perform(self._scheduler.handle(event, now_s))
            if isinstance(event, core.OutcomeArrived):
                self._refill(event.lease.task_id, now_s)
        self._lane_s = now_s
        self._perform(self._scheduler.place())

    def _refill(self, ended: int, now_s: float) -> None:
        """The driver hears of an outcome, and sends the next tasks."""
        self._window.end(ended)
        while (number := self._window.next()) is not None:
            self._window.send(number, 0)
            self._write(now_s + 2 * LATENCY_S, self._task(number))

    def _write(self, at_s: float, event: core.Event) -> None:
        """A message to the lane arrives."""
        self._number += 1
        heapq.heappush(self._mail, (at_s, self._number, event))

    def _perform(self, actions: Sequence[core.Action]) -> None:
        for action in actions:
            if isinstance(action, core.SendTask):
                self._queued_count -= 1
                if not self._queued_count and not self._tail_s:
                    self._tail_s = self._lane_s
                self._post(_STEP, action.peer, action.lease)
            elif isinstance(action, core.TakeBack):
                self._post(_LOOK, action.peer, action.lease)

    def _post(self, kind: int, peer: Peer, lease: Lease) -> None:
        self._lane_s += MESSAGE_S
        self._push(self._lane_s + LATENCY_S, kind, peer, lease)

    # --- workers

    def _push(self, at_s: float, kind: int, peer: Peer, lease: Lease | None) -> None:
        self._number += 1
        heapq.heappush(self._heap, (at_s, kind, self._number, peer, lease))

    def _step(self, now_s: float, kind: int, peer: Peer, lease: Lease | None) -> None:
        worker = self._workers[peer]
        if kind == _LOOK:
            assert lease is not None
            self._look(now_s, peer, worker, lease)
            return
        if lease is not None:
            worker.waiting.append(lease)
        elif worker.running is not None:
            outcome = core.OutcomeArrived(worker.running, WorkerId(peer.decode()), now_s - worker.begin_s)
            self._write(now_s + LATENCY_S, outcome)
            worker.running = None
        if worker.running is None and worker.waiting:
            self._begin(now_s, peer, worker)

    def _begin(self, now_s: float, peer: Peer, worker: _Worker) -> None:
        worker.running = worker.waiting.popleft()
        worker.begin_s = now_s
        worker.end_s = now_s + self._job.durations_s[worker.running.task_id]
        self._spans.append((now_s, worker.end_s))
        self._push(worker.end_s, _STEP, peer, None)

    def _look(self, now_s: float, peer: Peer, worker: _Worker, lease: Lease) -> None:
        look_s = min(worker.begin_s + LOOK_S, worker.end_s)
        if worker.running is not None and now_s < look_s:
            self._push(look_s, _LOOK, peer, lease)
        elif lease in worker.waiting:
            worker.waiting.remove(lease)
            returned = core.TaskReturned(lease, WorkerId(peer.decode()))
            self._write(now_s + LATENCY_S, returned)


def lower_bound_s(core_count: int, durations_s: Sequence[float]) -> float:
    """No schedule ends before: all work on all cores, or the longest task."""
    return max(sum(durations_s) / core_count, *durations_s)


def round_robin_s(node_cores: Sequence[int], durations_s: Sequence[float]) -> float:
    """The makespan if task n goes to node n modulo nodes, where the next free core takes it."""
    ends = [[0.0] * count for count in node_cores]
    for number, duration_s in enumerate(durations_s):
        cores = ends[number % len(ends)]
        heapq.heapreplace(cores, cores[0] + duration_s)
    return max(max(cores) for cores in ends)
