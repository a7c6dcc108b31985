"""What the cluster promises, as code: looked at after every step, and when everything has come to rest.

The numbers are those of the promises in the manual. A promise that is broken raises `BrokenPromiseError`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from quakegrid.engine.database.hold_keeper import HOLD_S
from quakegrid.errors import IllegalMoveError, PeerUnreachableError
from quakegrid.jobs.states import JobState
from quakegrid.services.lane.tasks.events import SessionId
from tests.simulation.attempts import Attempts
from tests.simulation.fabric.faults import FaultKind

if TYPE_CHECKING:
    from quakegrid.session.lane_tasks import LaneOutcome
    from tests.simulation.parts.drivers import SimulatedDriver
    from tests.simulation.parts.lanes import SimulatedLane
    from tests.simulation.parts.workers import SimulatedWorker
    from tests.simulation.world import World

# The books of all parts are checked after so many steps; in a replay after each.
STEPS = 24
# How long drivers look for a broker, and workers for a lane that knows their session.
PATIENCE_S = 60.0
# What may end a calculation that nobody wanted to end, and the faults that excuse it. Those of one machine or
# of one calculation excuse it only if they hit that of its driver, or its driver, or its workers.
_K = FaultKind
_CUTS = frozenset({_K.CUT, _K.CUT_IN, _K.CUT_OUT})
_GONE = _CUTS | {_K.AGENT_CRASH, _K.NODE_CRASH, _K.BLACKOUT, _K.DRIVER_CRASH, _K.DISK_FULL}
# Those that hit one machine or one calculation.
_OF_ONE = _CUTS | {
    _K.AGENT_CRASH,
    _K.NODE_CRASH,
    _K.AGENT_STOPPED,
    _K.DRIVER_CRASH,
    _K.POISON,
    _K.WORKER_CRASH,
}
EXCUSES: dict[str, frozenset[FaultKind]] = {
    "every node is left out": frozenset({_K.CLOCK_JUMP}),
    "ended its worker": frozenset({_K.POISON, _K.WORKER_CRASH}),
    "workers died and no task was done": frozenset({_K.POISON, _K.WORKER_CRASH}),
    "disk of the lane": frozenset({_K.DISK_FULL}),
    "the driver on": _GONE | {_K.AGENT_STOPPED},
    "hold on it was lost": _GONE | {_K.DATABASE_CRASH},
    "the lane does not answer": _GONE | {_K.LANE_CRASH, _K.BROKER_CRASH, _K.STOPPED},
    "the lane refused this session": frozenset({_K.BROKER_CRASH}),
    "does not answer": _GONE | {_K.BROKER_CRASH},
    "nobody answers": _GONE | {_K.BROKER_CRASH},
    "time in a minute": frozenset({_K.LANE_CRASH}),
    "not renewed its hold": _GONE | {_K.DATABASE_CRASH},
}


class BrokenPromiseError(AssertionError):
    """A promise was broken."""


def broken(number: int, words: str) -> BrokenPromiseError:
    """The error for a promise."""
    return BrokenPromiseError(f"promise {number}: {words}")


class Promises:
    """Watches one world.

    Args:
        world: that it watches.
        is_thorough: whether all books are checked after every step.
    """

    def __init__(self, world: World, *, is_thorough: bool = False) -> None:
        self._world = world
        self._steps = 1 if is_thorough else STEPS
        self._step_count = 0
        # Which worker runs which task: (session, task) -> workers.
        self._running: defaultdict[tuple[int, int], set[str]] = defaultdict(set)
        self._begun = Counter[tuple[int, int, int]]()
        self.attempts = Attempts(world)
        self._cores: dict[tuple[str, int], str] = {}
        self._jobs: dict[str, int] = {}
        self._acknowledged: dict[int, JobState] = {}
        self.aborted_jobs: dict[int, float] = {}
        # When a lane last handed a task out, when it passed an outcome on, and which outcomes drivers have.
        self._sent: dict[tuple[int, int], float] = {}
        self._delivered: dict[tuple[int, int, int], float] = {}
        self._taken: set[tuple[int, int]] = set()
        # Outcomes that reached a lane which knows their session.
        self._received: set[tuple[int, int, int]] = set()
        self._workers: dict[str, SimulatedWorker] = {}
        self.done_count = 0

    # --- 1: outputs once, from one attempt

    def on_task_began(self, worker: SimulatedWorker, task_id: int, attempt: int) -> None:
        """A worker begins a task."""
        place = worker.place
        lease = place.session_id, task_id, attempt
        self._begun[lease] += 1
        key = place.session_id, task_id
        self._world.trace("begins", place.worker_id, lease)
        if words := self.attempts.on_began(worker, task_id, attempt):
            number = 4 if self._running[key] else 10
            raise broken(number, f"{place.worker_id} begins task {task_id} again: {words}")
        self._running[key].add(place.worker_id)

    def on_task_done(self, worker: SimulatedWorker, task_id: int, _attempt: int) -> None:
        """A worker has done a task."""
        self._running[worker.place.session_id, task_id].discard(worker.place.worker_id)

    def on_outcome(self, driver: SimulatedDriver, outcome: LaneOutcome) -> None:
        """A program takes an outcome."""
        task_id = outcome.task_id
        self.done_count += 1
        self._world.trace("outcome", driver.program.name, task_id, outcome.error)
        if task_id in driver.results or task_id in driver.failures:
            raise broken(1, f"{driver.program.name} gets the outcome of task {task_id} twice")
        if not 1 <= task_id <= len(driver.program.tasks):
            raise broken(1, f"{driver.program.name} gets an outcome of task {task_id}, which it never had")
        if outcome.error:
            self._check_failure(driver, outcome)
            return
        session_id, task, attempt, _ = outcome.frames[0].buffer.tobytes().decode().split()
        if driver.rules is None or (int(session_id), int(task)) != (driver.rules.session_id, task_id):
            raise broken(1, f"{driver.program.name} gets for task {task_id} what is of task {task}")
        if not self._begun[int(session_id), task_id, int(attempt)]:
            raise broken(1, f"task {task_id} has an outcome of attempt {attempt}, which never began")
        self._check_sent_again((int(session_id), task_id), int(attempt))

    # --- 10: what was computed is not computed again

    def on_delivered(self, session_id: int, task_id: int, attempt: int, worker_id: str) -> None:
        """A lane passes an outcome on to its driver."""
        self.attempts.on_delivered(session_id, task_id, worker_id)
        self._delivered[session_id, task_id, attempt] = self._world.now_s

    def on_sent(self, session_id: int, task_id: int, attempt: int, worker_id: str) -> None:
        """A lane hands out a task."""
        self.attempts.on_sent(session_id, task_id, attempt, worker_id)
        key = session_id, task_id
        self._sent[key] = self._world.now_s
        if key in self._taken:
            words = f"attempt {attempt} of task {task_id} is handed out, and its driver has the outcome"
            self._world.fail(broken(10, words))  # a lane would take an exception for its own

    def _check_sent_again(self, key: tuple[int, int], attempt: int) -> None:
        """A driver has an outcome that its lane took for lost or unknown, and had computed again."""
        self._taken.add(key)
        is_later = self._sent.get(key, 0.0) > self._delivered.get((*key, attempt), float("inf"))
        if is_later:
            raise broken(10, f"task {key[1]} was handed out again after its outcome was on its way")

    def on_received(self, session_id: int, task_id: int, attempt: int) -> None:
        """A lane that knows the session gets an outcome."""
        self._received.add((session_id, task_id, attempt))

    def on_drained(self, worker: SimulatedWorker) -> None:
        """A drained worker ends by itself: its lane has all that it computed."""
        for lease in worker.done:
            if lease not in self._received:
                words = (
                    f"{worker.place.worker_id} is drained and ends before its lane has the outcome of task"
                )
                self._world.fail(broken(10, f"{words} {lease[1]}"))

    def on_gave_up(self, worker: SimulatedWorker, waited_s: float) -> None:
        """A worker ends as no lane knows its session: drivers look for a broker as long (promise 4)."""
        self._world.trace("gives up", worker.place.worker_id, waited_s)
        if waited_s < PATIENCE_S:
            words = f"{worker.place.worker_id} gives up, as its lane has not known its session"
            self._world.fail(broken(4, f"{words} for {waited_s:.1f} s"))

    # --- 2: workers may die

    def _check_failure(self, driver: SimulatedDriver, outcome: LaneOutcome) -> None:
        task = driver.program.tasks[outcome.task_id - 1]
        crash_count = self._world.crash_counts[driver.program.name]
        self._excuse(driver, outcome.error)
        if outcome.reasons and not task.is_poison:
            most = self._world.settings.max_attempts
            if crash_count < most:
                words = f"task {outcome.task_id} of {driver.program.name} fails after {crash_count} crashes"
                raise broken(2, f"{words} of its workers: {outcome.error}")

    def on_driver_failed(self, driver: SimulatedDriver, reason: str) -> None:
        """A driver gives up."""
        self._world.trace("fails", driver.program.name, reason)
        self._excuse(driver, reason)

    def _excuse(self, driver: SimulatedDriver, reason: str) -> None:
        """A calculation fails: there must be a fault that explains it."""
        if driver.job_id in self.aborted_jobs or driver.is_aborted:
            return
        if driver.job_id and "hold on it was lost" in reason:  # others ended the job, and said why
            reason = f"{reason}: {self._world.database.reason(driver.job_id)}"
        if not driver.program.has_job and isinstance(
            driver.rules and driver.rules.failure, PeerUnreachableError
        ):
            return  # only calculations wait for a broker
        for words, kinds in EXCUSES.items():
            if words in reason and self._has_cause(driver, kinds):
                return
        raise broken(6, f"{driver.program.name} fails without cause: {reason}")

    def _has_cause(self, driver: SimulatedDriver, kinds: frozenset[FaultKind]) -> bool:
        """Whether one of these faults hit what a driver needs."""
        faults, name = self._world.faults, driver.program.name
        if kinds - _OF_ONE & faults.counts.keys() or faults.has_hit([driver.node.machine, name], kinds):
            return True
        return FaultKind.WORKER_CRASH in kinds and self._world.crash_counts[name] > 0

    # --- no core has two owners

    def on_worker_began(self, worker: SimulatedWorker) -> None:
        """A worker's process begins."""
        place = worker.place
        self._world.trace("worker", place.worker_id, worker.node.machine, place.cores)
        if place.worker_id in self._workers:
            raise broken(12, f"there are two workers {place.worker_id}")
        self._workers[place.worker_id] = worker
        for core in place.cores:
            owner = self._cores.setdefault((worker.node.machine, core), place.worker_id)
            if owner != place.worker_id:
                raise broken(8, f"core {core} of {worker.node.machine} is that of {owner} already")

    def on_worker_ended(self, worker: SimulatedWorker) -> None:
        """A worker's process ends."""
        place = worker.place
        self._world.trace("ends", place.worker_id)
        del self._workers[place.worker_id]
        for core in place.cores:
            del self._cores[worker.node.machine, core]
        for workers in self._running.values():
            workers.discard(place.worker_id)

    # --- 5 and 6: jobs

    def on_job_created(self, request_id: str, job_id: int) -> None:
        """The dbserver answers."""
        if self._jobs.setdefault(request_id, job_id) != job_id:
            raise broken(5, f"one request made the jobs {self._jobs[request_id]} and {job_id}")

    def on_acknowledged(self, job_id: int, state: JobState) -> None:
        """The dbserver has moved a job, or it was there."""
        self._world.trace("job", job_id, str(state))
        self._acknowledged[job_id] = state

    def on_hold_lost(self, job_id: int, worked_s: float) -> None:
        """The dbserver fails a job since nobody renews its hold; it has worked so long meanwhile."""
        self._world.trace("hold lost", job_id, worked_s)
        if worked_s < HOLD_S / 2:  # it may stand still for moments that nobody notices
            words = f"the hold on job {job_id} is lost after {worked_s:.0f} s, apart from the time in which"
            self._world.fail(broken(6, f"{words} the dbserver stood still"))
        driver = next((each for each in self._world.drivers if each.job_id == job_id), None)
        if driver is not None and driver.is_alive and not driver.is_closing:
            self._excuse(driver, "hold on it was lost")

    def on_ended_by_kernel(self, driver: SimulatedDriver, *, is_same_broker: bool) -> None:
        """12: a broker has a driver killed that hangs at its abort; the kernel only if the broker died."""
        if is_same_broker:
            raise broken(12, f"{driver.program.name} hung at its abort, and the broker did not end it")

    def on_driver_ended(self, driver: SimulatedDriver) -> None:
        """A driver's process ends."""
        self._world.trace("driver ends", driver.program.name, driver.end_words)

    def on_admitted(self, driver: SimulatedDriver) -> None:
        """A driver may begin."""
        self._world.trace("admitted", driver.program.name)

    # --- the books

    def on_step(self, lane: SimulatedLane) -> None:
        """Something has happened."""
        self._step_count += 1
        if self._step_count % self._steps == 0:
            assert lane.door is not None
            lane.door._scheduler.check()
            self.check_books()

    def check_books(self) -> None:
        """Every part's own invariants."""
        try:
            broker = self._world.master.broker
            if broker is not None:
                fleet = broker._loop.fleet
                if not fleet.is_placement_due:
                    fleet.check()
                broker._lanes._places.check()
                self._check_executing()
            for driver in self._world.drivers:
                if driver.client is not None:
                    driver.client.window.check()
        except IllegalMoveError as exc:
            raise broken(8, str(exc)) from exc
        self._world.master.fail_if_broken()

    def _check_executing(self) -> None:
        """8: no more calculations execute at once than may, except those of an earlier broker."""
        broker = self._world.master.broker
        limit = self._world.settings.serialize_jobs
        assert broker is not None
        sessions = broker._loop.fleet.sessions.values()
        count = sum(each.is_admitted and bool(each.job_ids) and not each.is_resumed for each in sessions)
        if 0 < limit < count:
            raise broken(8, f"{count} calculations execute, and {limit} may")

    # --- at rest

    def is_at_rest(self) -> bool:
        """Whether nothing has to come to its end any more."""
        jobs = self._world.database.states().values()
        is_up = self._world.master.broker is not None and self._world.database.is_up
        return is_up and all(state.is_final for state, _ in jobs) and not any(self._unrest())

    def check_rest(self) -> None:
        """Everything has come to its end, and nothing is left."""
        for words in self._unrest():
            raise broken(12, words)
        states = self._world.database.states()
        names = Counter(request_id for _, request_id in states.values())
        for request_id, count in names.items():
            if count > 1:
                raise broken(5, f"{count} jobs came of the request {request_id!r}")
        for job_id, (state, _) in states.items():
            self._check_job(job_id, state)

    def _check_job(self, job_id: int, state: JobState) -> None:
        """5 and 6: no job is left in the middle, and none is in another state than its driver was told."""
        if not state.is_final and state is not JobState.CREATED:
            raise broken(6, f"job {job_id} is {state} for ever")
        driver = next((each for each in self._world.drivers if each.job_id == job_id), None)
        if driver is None:
            return
        if driver.end_words == "complete" and state is not JobState.COMPLETE:
            self._excuse(driver, f"hold on it was lost: {self._world.database.reason(job_id)}")
        if state is JobState.COMPLETE and len(driver.results) != len(driver.program.tasks):
            raise broken(1, f"job {job_id} is complete with {len(driver.results)} outcomes")
        if state is JobState.FAILED and driver.end_words == "killed":
            self._excuse(driver, self._world.database.reason(job_id) or "the driver on")

    def _unrest(self) -> Iterator[str]:
        """What is not at its end."""
        for driver in self._world.drivers:
            if driver.is_alive:
                yield f"{driver.program.name} waits for ever: {self._what_is_missing(driver)}"
        for worker in self._workers.values():
            yield f"worker {worker.place.worker_id} of session {worker.place.session_id} stays"
        broker = self._world.master.broker
        if broker is not None:
            fleet = broker._loop.fleet
            if fleet.workers:
                yield f"the broker counts workers that are not there: {sorted(fleet.workers)}"
            if broker._sessions:
                yield f"the broker has sessions without drivers: {sorted(broker._sessions)}"
        for node in self._world.nodes.values():
            if node.roster.members:
                yield f"{node.machine} counts children that are not there: {sorted(node.roster.members)}"

    def _what_is_missing(self, driver: SimulatedDriver) -> str:
        count = len(driver.results) + len(driver.failures)
        state = driver.rules.state.name if driver.rules else "without a job"
        lanes = [lane for lane in self._world.master.lanes if lane.door is not None]
        session_id = driver.rules.session_id if driver.rules else 0
        found = [
            str(lane.door._scheduler.counts(SessionId(session_id)))
            for lane in lanes
            if lane.door is not None and session_id in lane.door._scheduler.session_ids
        ]
        return f"{state}, {count} of {len(driver.program.tasks)} tasks done; its lane has {found}"
