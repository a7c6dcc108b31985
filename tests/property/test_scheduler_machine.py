"""The scheduling core under lost, late, repeated and reordered messages: every outcome once."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.lane.tasks import events as lane
from quakegrid.services.lane.tasks.events import Lease, Peer, SessionId, TaskId, WorkerId
from quakegrid.services.lane.tasks.scheduler import Scheduler
from quakegrid.services.lane.tasks.session import MAX_EXCUSED

S = SessionId(7)
DRIVER = Peer(b"driver")
MAX_ATTEMPTS = 3
TIMEOUT_S = 10.0


class LaneMachine(RuleBasedStateMachine):
    """Random lives of workers and tasks against a model that counts what the driver was told."""

    workers = Bundle("workers")
    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler()
        self.now_s = 0.0
        self.scheduler.handle(lane.SessionOpened(S, MAX_ATTEMPTS, TIMEOUT_S), self.now_s)
        self.overdue: set[WorkerId] = set()
        self.scheduler.handle(lane.DriverJoined(S, DRIVER), self.now_s)
        self.submitted: set[int] = set()
        self.told: dict[int, str] = {}
        self.leases: list[tuple[Lease, WorkerId]] = []
        self.worker_count = 0
        self.nodes: dict[WorkerId, str] = {}
        self.draining: set[WorkerId] = set()
        # How often each task may have been with a worker as it ended, for its own fault or for another's.
        self.guilty: Counter[int] = Counter()
        self.excused: Counter[int] = Counter()

    def take(self, actions: list[lane.Action]) -> None:
        """Play the edge: remember leases, and that the driver hears of each task at most once."""
        for action in [*actions, *self.scheduler.place()]:
            match action:
                case lane.SendTask(peer, lease, payload):
                    assert payload == lease.task_id
                    assert lease.task_id not in self.told, "sent after its end"
                    self.leases.append((lease, WorkerId(peer.decode())))
                case lane.DeliverOutcome(_, lease, _):
                    assert lease.task_id not in self.told, "delivered twice"
                    self.told[lease.task_id] = "delivered"
                case lane.FailTask(_, lease, _, _, reasons):
                    assert lease.task_id not in self.told, "told twice"
                    assert len(reasons) == MAX_ATTEMPTS
                    unexcused = max(0, self.excused[lease.task_id] - MAX_EXCUSED)
                    assert self.guilty[lease.task_id] + unexcused >= MAX_ATTEMPTS, "an excuse was an attempt"
                    self.told[lease.task_id] = "failed"
                case lane.KillWorker(_, worker_id):
                    self.overdue.add(worker_id)
                case _:
                    pass

    @rule(weight=st.sampled_from((0.5, 1.0, 7.0)), expected_s=st.sampled_from((0.0, 0.01, math.inf)))
    def submit(self, weight: float, expected_s: float) -> None:
        """A new task."""
        task_id = len(self.submitted) + 1
        self.submitted.add(task_id)
        task = lane.TaskSubmitted(S, TaskId(task_id), DRIVER, "op", task_id, weight, expected_s)
        self.take(self.scheduler.handle(task, self.now_s))

    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        """A repeated submission of a task that the driver still waits for."""
        waiting = sorted(self.submitted - self.told.keys())
        if waiting:
            task_id = TaskId(data.draw(st.sampled_from(waiting)))
            self.take(
                self.scheduler.handle(lane.TaskSubmitted(S, task_id, DRIVER, "op", task_id), self.now_s)
            )

    def end(self, name: WorkerId, reason: str, *, is_clean: bool = False, is_blameless: bool = False) -> None:
        """A worker ends, or is said again to have ended; it may have held what was last sent to it."""
        last = {lease.task_id: worker for lease, worker in self.leases}
        is_there = self.nodes.pop(name, None) is not None
        held = [task_id for task_id, worker in last.items() if is_there and worker == name]
        is_excused = is_blameless or (is_clean and name in self.draining)
        (self.excused if is_excused and name not in self.overdue else self.guilty).update(held)
        end = WorkerEnd(S, name, reason, is_clean=is_clean, is_blameless=is_blameless)
        self.take(self.scheduler.handle(end, self.now_s))

    @rule(target=workers, node=st.sampled_from(("node1", "node2", "node3")))
    def join(self, node: str) -> WorkerId:
        """A new worker."""
        self.worker_count += 1
        name = WorkerId(f"w{self.worker_count}")
        self.nodes[name] = node
        joined = lane.WorkerJoined(S, name, node, Peer(name.encode()))
        self.take(self.scheduler.handle(joined, self.now_s))
        return name

    @rule(name=workers)
    def greet(self, name: WorkerId) -> None:
        """A worker's connection broke; what it has comes later, or never."""
        self.take(self.scheduler.handle(lane.WorkerGreeted(S, name), self.now_s))

    @rule(name=workers, data=st.data())
    def join_again(self, name: WorkerId, data: st.DataObject) -> None:
        """A worker whose connection broke names some of the leases that it ever had."""
        mine = [lease for lease, worker in self.leases if worker == name]
        held = data.draw(st.lists(st.sampled_from(mine), unique=True)) if mine else []
        self.take(
            self.scheduler.handle(
                lane.WorkerJoined(S, name, "node", Peer(name.encode()), tuple(held)), self.now_s
            )
        )

    @rule(name=consumes(workers))
    def lose(self, name: WorkerId) -> None:
        """The worker's process ends."""
        self.end(name, "killed")

    @rule(node=st.sampled_from(("node1", "node2", "node3")))
    def lose_node(self, node: str) -> None:
        """A node vanishes with all its workers; nobody is to blame."""
        for name in [name for name, where in self.nodes.items() if where == node]:
            self.end(name, "vanished", is_blameless=True)

    @precondition(lambda self: self.draining & self.nodes.keys())
    @rule()
    def end_drained(self) -> None:
        """A drained worker ends in order; what it gave back may have been lost."""
        self.end(min(self.draining & self.nodes.keys()), "exit code 0", is_clean=True)

    @rule(later_s=st.sampled_from((1.0, 10.0, 100.0)))
    def pass_time(self, later_s: float) -> None:
        """A look at what has run for too long."""
        self.now_s += later_s
        self.take(self.scheduler.handle(lane.TimePassed(), self.now_s))

    @precondition(lambda self: self.overdue)
    @rule(is_clean=st.booleans())
    def kill(self, is_clean: bool) -> None:
        """The broker had a worker killed, or it ended by itself just before."""
        name = min(self.overdue)
        self.end(name, "too long", is_clean=is_clean)
        self.overdue.discard(name)

    @rule(name=workers)
    def drain(self, name: WorkerId) -> None:
        """The broker wants the core back."""
        self.draining.add(name)
        self.take(self.scheduler.handle(lane.DrainAsked(S, name), self.now_s))

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any attempt that was ever leased sends its outcome, perhaps late, perhaps again."""
        if self.leases:
            lease, name = data.draw(st.sampled_from(self.leases))
            duration_s = data.draw(st.sampled_from((0.0, 0.001, 2.0)))
            self.take(self.scheduler.handle(lane.OutcomeArrived(lease, name, duration_s), self.now_s))

    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """Any attempt that was ever leased is given back, asked for or not."""
        if self.leases:
            lease, name = data.draw(st.sampled_from(self.leases))
            self.take(self.scheduler.handle(lane.TaskReturned(lease, name), self.now_s))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """The driver does without some tasks."""
        if self.submitted:
            task_id = data.draw(st.sampled_from(sorted(self.submitted)))
            self.take(self.scheduler.handle(lane.TasksCancelled(S, (TaskId(task_id),)), self.now_s))
            self.told.setdefault(task_id, "cancelled")

    @rule(data=st.data(), weight=st.sampled_from((0.5, 1.0, 7.0)))
    def cancel_and_submit_again(self, data: st.DataObject, weight: float) -> None:
        """The driver thinks better of a task, perhaps of one that runs, and gives it another weight."""
        waiting = sorted(self.submitted - self.told.keys())
        if waiting:
            task_id = TaskId(data.draw(st.sampled_from(waiting)))
            self.take(self.scheduler.handle(lane.TasksCancelled(S, (task_id,)), self.now_s))
            self.take(
                self.scheduler.handle(
                    lane.TaskSubmitted(S, task_id, DRIVER, "op", task_id, weight), self.now_s
                )
            )

    @rule(is_full=st.booleans())
    def fill(self, is_full: bool) -> None:
        """The driver is slow, or not any more."""
        self.take(self.scheduler.handle(lane.DriverFilled(S, is_full), self.now_s))

    @rule(attempt=st.integers(0, 5), task_id=st.integers(0, 20))
    def invent(self, attempt: int, task_id: int) -> None:
        """A peer sends the outcome of a lease that it never had."""
        outcome = lane.OutcomeArrived(Lease(S, TaskId(task_id), attempt), WorkerId("stranger"))
        self.take(self.scheduler.handle(outcome, self.now_s))

    @invariant()
    def is_consistent(self) -> None:
        """Every task is in exactly one place."""
        self.scheduler.check()
        counts = self.scheduler.counts(S)
        assert counts.queued_count + counts.running_count + len(self.told) == len(self.submitted)

    def teardown(self) -> None:
        """With a healthy worker at last, everything that was submitted is told."""
        self.fill(is_full=False)
        healthy = lane.WorkerJoined(S, WorkerId("last"), "node", Peer(b"last"))
        for number in range(1, self.worker_count + 1):
            self.end(WorkerId(f"w{number}"), "end")
        self.take(self.scheduler.handle(healthy, self.now_s))
        number = 0
        while self.told.keys() != self.submitted:
            lease, name = self.leases[-1 - number]
            number = 0 if lease.task_id not in self.told and name == "last" else number + 1
            self.take(self.scheduler.handle(lane.OutcomeArrived(lease, name), self.now_s))


TestLaneMachine = LaneMachine.TestCase
TestLaneMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
