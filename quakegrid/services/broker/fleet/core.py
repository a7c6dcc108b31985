"""The fleet core: which session executes, and which cores are whose.

Pure: events in, actions out. Knows nodes, sessions and workers by name; does not depend on sockets, clocks
and processes. Cores are divided max-min fair among the admitted sessions that have tasks. A core counts as
taken from the order to start its worker until the report of that worker's exit. A worker is taken from a
session only when another session has tasks for its core: then it is drained.

`handle` takes each event and returns what must be done at once. `place` divides the cores, once a turn of
the loop, so that a burst of events costs one division.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from quakegrid.errors import IllegalMoveError
from quakegrid.nodes.worker_ends import WorkerEnd
from quakegrid.services.broker.fleet import deaths
from quakegrid.services.broker.fleet.cores import CoreTable
from quakegrid.services.broker.fleet.events import (
    Action,
    Event,
    LoseWorker,
    NodeEvent,
    NodeJoined,
    NodeLeaving,
    NodeLost,
    NodeReported,
    ProgressMade,
    SecondPassed,
    SessionEnded,
    SessionRequested,
    StopWorkers,
    TasksCounted,
    WorkersRefused,
    WorkersStarted,
    WorkersUnsure,
)
from quakegrid.services.broker.fleet.leftovers import Leftovers
from quakegrid.services.broker.fleet.nodes import FleetNodes
from quakegrid.services.broker.fleet.placing.placement import Placement, PlacementRules
from quakegrid.services.broker.fleet.queue import SessionQueue
from quakegrid.services.broker.fleet.state import (
    NO_LIMITS,
    FleetNode,
    FleetSession,
    FleetWorker,
    PersonLimits,
    SessionPhase,
)
from quakegrid.services.broker.fleet.workers import WorkerTable
from quakegrid.settings.hosts import HostCores

# How long a session keeps its cores when there are fewer cores than sessions that have tasks.
TURN_S = 30
SECOND_S = 1.0


@dataclass(slots=True)
class Fleet:
    """Nodes, sessions and workers of a cluster.

    Args:
        hosts: the nodes of the configuration.
        serialize_jobs: sessions with jobs that execute at once; 0 for no limit.
        run_name: makes worker ids unique across restarts of the broker.
        is_packed: whether workers fill one node after the other, rather than spread over all.
        limits: for one person.
    """

    hosts: Sequence[HostCores]
    serialize_jobs: int
    run_name: str
    is_packed: bool = False
    limits: PersonLimits = NO_LIMITS
    nodes: dict[str, FleetNode] = field(init=False)
    sessions: dict[int, FleetSession] = field(init=False, default_factory=dict)
    cores: CoreTable = field(init=False, default_factory=CoreTable)
    workers: WorkerTable = field(init=False)
    leftovers: Leftovers = field(init=False, default_factory=Leftovers)
    # Whether something has changed that `place` has not seen.
    is_placement_due: bool = field(init=False, default=False)
    _queue: SessionQueue = field(init=False)
    _nodes: FleetNodes = field(init=False)
    _placement: Placement = field(init=False)
    _turn_s: int = field(init=False, default=0)
    _second_s: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.nodes = {item.host: FleetNode(item.host, item.cores) for item in self.hosts}
        for host in self.nodes:
            self.cores.enter(host)
        self.workers = WorkerTable(self.sessions, self.cores)
        self._queue = SessionQueue(self.sessions, self.serialize_jobs, self.limits)
        self._nodes = FleetNodes(self.nodes, self.sessions, self.workers, self.leftovers, self.cores)
        rules = PlacementRules(self.run_name, self.is_packed, self.limits.max_cores)
        self._placement = Placement(self.nodes, self.sessions, self.workers, self.cores, rules)

    @property
    def core_count(self) -> int:
        """Cores of all nodes that are up."""
        return self.cores.given

    def workers_of(self, *, session_id: int | None = None, host: str | None = None) -> list[FleetWorker]:
        """The workers of a session, of a node, or of both."""
        if session_id is not None:
            mine = self.workers.of_session(session_id)
            return [worker for worker in mine if host in (None, worker.host)]
        return list(self.workers.values()) if host is None else self.workers.of_host(host)

    def handle(self, event: Event, now_s: float) -> list[Action]:
        """Take one event.

        Returns:
            What must be done at once, in order; `place` may add to it in this turn of the loop.
        """
        match event:
            case WorkersStarted() | WorkersUnsure() | ProgressMade() | TasksCounted():
                self._note(event)
                return []
            case WorkersRefused() | WorkerEnd():
                actions = self._on_workers_gone(event)
            case NodeReported() | NodeLost() | NodeJoined() | NodeLeaving():
                actions = self._on_node(event)
            case SessionRequested():
                actions = self._on_session_requested(event)
            case SessionEnded():
                actions = self._on_session_ended(event)
            case SecondPassed():
                actions = self._on_second_passed(now_s)
            case _ as unreachable:
                assert_never(unreachable)
        return actions + self._nodes.forget()

    def place(self) -> list[Action]:
        """Divide the cores anew if something has changed; once a turn of the loop."""
        if not self.is_placement_due:
            return []
        self.is_placement_due = False
        return self._placement.place()

    def next_deadline_s(self) -> float | None:
        """When to say that a second has passed; None before the first time, which may come at once."""
        return None if self._second_s is None else self._second_s + SECOND_S

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        self.workers.check()
        self.cores.check()
        self._queue.check()
        for node in self.nodes.values():
            count = self.cores[node.host].kept
            if node.tells_cores and count > node.core_count and not self.is_placement_due:
                raise IllegalMoveError(f"{node.host} gives {node.core_count} cores, {count} stay in use")
        for session in self.sessions.values():
            count = self.workers.count_of_session(session.session_id)
            if count and not session.may_have_workers:
                raise IllegalMoveError(f"session {session.session_id} has {count} workers and may have none")
            if 0 < session.max_workers < self.workers.staying_count(session.session_id):
                raise IllegalMoveError(f"session {session.session_id} has more workers than it may")

    def _on_node(self, event: NodeEvent) -> list[Action]:
        before = self._nodes.look_of(event.host)
        actions = self._nodes.handle(event)
        is_first = isinstance(event, NodeReported) and event.present is not None
        self.is_placement_due |= is_first or bool(actions) or before != self._nodes.look_of(event.host)
        return actions

    def _note(self, event: WorkersStarted | WorkersUnsure | ProgressMade | TasksCounted) -> None:
        """Take an event that seldom matters for placement."""
        match event:
            case WorkersStarted() | WorkersUnsure():  # those that were not started are not in the next report
                for worker_id in event.worker_ids:
                    if worker_id in self.workers:
                        self.workers[worker_id].is_started = True
            case ProgressMade():
                if event.session_id in self.sessions:
                    self.sessions[event.session_id].forgive()
            case _:  # TasksCounted
                session = self.sessions.get(event.session_id)
                if session is not None:
                    is_news = session.count_tasks(event.task_count, event.busy_worker_ids, self.core_count)
                    self.is_placement_due |= is_news

    def _on_second_passed(self, now_s: float) -> list[Action]:
        self._second_s, self.is_placement_due = now_s, True
        actions = self._nodes.pass_second()
        for session in self.sessions.values():
            session.pass_second()
            actions += deaths.lose_strangers(session, self.workers)
            if session.deaths:
                actions += deaths.check_session(session, self._nodes.usable_by(session))
        self.workers.pass_second()
        self._turn_s += 1
        if self._turn_s >= TURN_S:
            self._turn_s = 0
            self._placement.end_turn()
        return actions

    def _on_session_requested(self, event: SessionRequested) -> list[Action]:
        if event.session_id in self.sessions:
            raise IllegalMoveError(f"session {event.session_id} was requested twice")
        session = FleetSession(
            event.session_id,
            event.job_ids,
            event.is_local,
            max_workers=event.max_workers,
            weight=event.weight,
            phase=SessionPhase.QUEUED if event.resumed is None else SessionPhase.EXECUTING,
            served=self._placement.least_served(event.person),
            is_resumed=event.resumed is not None,
            width=event.width,
            fingerprint=event.fingerprint,
            person=event.person,
        )
        self.sessions[event.session_id] = session
        if event.resumed is not None:
            self._queue.note_begin(session)
        self.is_placement_due = True
        actions: list[Action] = []
        for node in self.nodes.values():
            if node.core_count:
                actions += self._nodes.compare(session, node)
        for worker_id, host in event.resumed or ():
            self._nodes.adopt(worker_id, event.session_id, host)
        return [*actions, *self._queue.tell(), *self._queue.admit()]

    def _on_session_ended(self, event: SessionEnded) -> list[Action]:
        if self.sessions.pop(event.session_id, None) is None:
            return []
        self.is_placement_due = True
        hosts = dict.fromkeys(worker.host for worker in self.workers.end_session(event.session_id))
        self.leftovers.condemn(event.session_id)
        stops = [StopWorkers(host, event.session_id, event.is_forced) for host in hosts]
        return [*stops, *self._queue.tell(), *self._queue.admit()]

    def _on_workers_gone(self, event: WorkersRefused | WorkerEnd) -> list[Action]:
        self.is_placement_due = True
        if isinstance(event, WorkerEnd):
            return self._on_worker_ended(event)
        for worker_id in event.worker_ids:
            worker = self.workers.remove(worker_id)
            if worker is not None and worker.session_id in self.sessions:
                # Its next report, or the next second, says when to try again.
                self.nodes[worker.host].is_refusing = True
        return []

    def _on_worker_ended(self, end: WorkerEnd) -> list[Action]:
        worker = self.workers.remove(end.worker_id)
        session = self.sessions.get(worker.session_id) if worker else None
        if worker is None or session is None:
            return []
        # An agent tells of its own nodes' workers, but not whose these are.
        end = replace(end, session_id=worker.session_id, node=self._nodes.title(worker.host))
        lost = LoseWorker(end)
        if session.is_failed or deaths.is_excused(session, end):
            return [lost]
        reason = end.words + (f" ({end.last_output[-1]})" if end.last_output else "")
        return [lost, *deaths.note(session, worker.host, reason, self._nodes.usable_by(session))]
