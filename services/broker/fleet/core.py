"""The fleet core: which session executes, and which cores are whose.

Pure: events in, actions out. Knows nodes, sessions and workers by name; refuses to know sockets,
clocks and processes. Cores are divided max-min fair among the admitted sessions that have tasks; a
core is counted as taken from the order to start its worker until the report of that worker's exit.
A worker is taken from a session only when another has tasks for its core: then it is drained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from quakegrid.errors import IllegalMoveError
from quakegrid.settings.hosts import HostCores
from services.broker.fleet import deaths
from services.broker.fleet.events import (
    Action,
    Admit,
    Event,
    FailSession,
    ForgetNode,
    LeaveOut,
    LoseWorker,
    NodeJoined,
    NodeLeaving,
    NodeLost,
    NodeReported,
    ProgressMade,
    Queue,
    SecondPassed,
    SessionEnded,
    SessionRequested,
    StopWorkers,
    TasksCounted,
    WorkerExited,
    WorkersRefused,
    WorkersStarted,
)
from services.broker.fleet.leftovers import Leftovers
from services.broker.fleet.placement import Placement
from services.broker.fleet.state import Node, Session, Worker, count_cores

# How long a session keeps its cores when there are fewer cores than sessions that have tasks.
TURN_S = 30
# Of the jobs before it a session is told so many: its driver prints them.
MAX_AHEAD = 100
# A node that joined and vanished without a word, as when a scheduler killed its job, will hardly come back;
# if it does, it joins again.
FORGET_AFTER_S = 600


@dataclass(slots=True)
class Fleet:
    """Nodes, sessions and workers of a cluster.

    Args:
        hosts: the nodes of the configuration.
        serialize_jobs: sessions with jobs that execute at once; 0 for no limit.
        run_name: makes worker ids unique across restarts of the broker.
    """

    hosts: Sequence[HostCores]
    serialize_jobs: int
    run_name: str
    nodes: dict[str, Node] = field(init=False)
    sessions: dict[int, Session] = field(init=False, default_factory=dict)
    workers: dict[str, Worker] = field(init=False, default_factory=dict)
    leftovers: Leftovers = field(init=False, default_factory=Leftovers)
    _placement: Placement = field(init=False)
    _turn_s: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.nodes = {item.host: Node(item.host, item.cores) for item in self.hosts}
        self._placement = Placement(self.nodes, self.sessions, self.workers, self.run_name)

    @property
    def core_count(self) -> int:
        """Cores of all nodes that are up."""
        return sum(node.core_count for node in self.nodes.values())

    def workers_of(self, *, session_id: int | None = None, host: str | None = None) -> list[Worker]:
        """The workers of a session, of a node, or of both."""
        return [
            worker
            for worker in self.workers.values()
            if session_id in (None, worker.session_id) and host in (None, worker.host)
        ]

    def handle(self, event: Event) -> list[Action]:
        """Take one event and say what is to be done, in order."""
        actions: list[Action] = []
        match event:
            case WorkersStarted() | WorkersRefused() | ProgressMade() | TasksCounted():
                if not self._note(event):
                    return actions
            case SecondPassed():
                self._on_second_passed(actions)
            case NodeReported():
                self._on_node_reported(event, actions)
            case NodeLost():
                self._on_node_lost(event, actions)
            case NodeJoined() | NodeLeaving():
                self._on_membership(event)
            case SessionRequested():
                self._on_session_requested(event, actions)
            case SessionEnded():
                self._on_session_ended(event, actions)
            case WorkerExited():
                self._on_worker_exited(event, actions)
            case _ as unreachable:
                assert_never(unreachable)
        self._forget(actions)
        self._admit(actions)
        self._placement.place(actions)
        return actions

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        for node in self.nodes.values():
            here = self.workers_of(host=node.host)
            count = count_cores(worker for worker in here if not self._placement.is_leaving(worker))
            if node.tells_cores and count > node.core_count:
                raise IllegalMoveError(f"{node.host} gives {node.core_count} cores, {count} stay in use")
        admitted = self._executing_count() - sum(each.is_resumed for each in self.sessions.values())
        if self.serialize_jobs and admitted > self.serialize_jobs:
            raise IllegalMoveError(f"{admitted} sessions execute, {self.serialize_jobs} may")
        for session in self.sessions.values():
            count = len(self.workers_of(session_id=session.session_id))
            if count and (session.is_local or not session.is_admitted):
                raise IllegalMoveError(f"session {session.session_id} has {count} workers and may have none")
            if session.max_workers and count > session.max_workers + self._draining_count(session):
                raise IllegalMoveError(f"session {session.session_id} has more workers than it may")

    def _note(self, event: WorkersStarted | WorkersRefused | ProgressMade | TasksCounted) -> bool:
        """Take an event that seldom matters to placement; whether it does."""
        match event:
            case WorkersStarted():
                for worker_id in event.worker_ids:
                    if worker_id in self.workers:
                        self.workers[worker_id].is_started = True
            case WorkersRefused():
                for worker_id in event.worker_ids:
                    worker = self.workers.pop(worker_id, None)
                    if worker is not None and worker.session_id in self.sessions:
                        # Its next report, or the next second, says when to try again.
                        self.nodes[worker.host].is_refusing = True
            case ProgressMade():
                if event.session_id in self.sessions:
                    self.sessions[event.session_id].forgive()
            case TasksCounted():
                return self._on_tasks_counted(event)
        return isinstance(event, WorkersRefused)

    def _on_tasks_counted(self, event: TasksCounted) -> bool:
        """Take the counts; whether they may change who has which cores."""
        session = self.sessions.get(event.session_id)
        if session is None:
            return False
        core_count = self.core_count
        before = session.wanted_count(core_count), session.claim(core_count)
        last, peak = session.peak_counts
        if session.task_count is None:  # more may follow the first
            peak = core_count
        session.task_count, session.busy_worker_ids = event.task_count, event.busy_worker_ids
        session.peak_counts = last, max(peak, event.task_count)
        return before != (session.wanted_count(core_count), session.claim(core_count))

    def _on_second_passed(self, actions: list[Action]) -> None:
        self.leftovers.pass_second()
        actions += self.leftovers.due(self._may_have_workers)
        for node in self.nodes.values():
            node.is_refusing = False
            node.lost_s += node.is_lost
            if node.is_guest and node.lost_s > FORGET_AFTER_S:
                node.is_leaving = True
        for session in self.sessions.values():
            session.peak_counts = session.peak_counts[1], session.task_count or 0
            session.unused_s += session.is_admitted and session.task_count is None
            self._check_deaths(session, actions)
        for worker in self.workers.values():
            worker.leaving_s += self._placement.is_leaving(worker)
        self._turn_s += 1
        if self._turn_s >= TURN_S:
            self._turn_s = 0
            self._end_turn()

    def _end_turn(self) -> None:
        """Who had a core goes behind those who waited; who wanted none saves up nothing."""
        core_count = self.core_count
        claiming = [session for session in self._placement.sessions() if session.claim(core_count).limit]
        wanting = [session for session in claiming if not session.is_idle] or claiming
        having = {worker.session_id for worker in self.workers.values()}
        is_crowded = self._placement.is_crowded
        for session in wanting:
            session.was_served = is_crowded and session.session_id in having
            session.served += session.was_served / session.weight
        least = min((session.served for session in wanting), default=0.0)
        for session in self.sessions.values():
            session.served = max(session.served, least) if is_crowded else 0.0

    def _on_node_reported(self, event: NodeReported, actions: list[Action]) -> None:
        node = self.nodes[event.host]
        node.name, node.state, node.is_refusing = event.node, event.state, False
        node.fingerprint, node.cores_per_worker = event.fingerprint, event.cores_per_worker
        node.older_fingerprints = event.older_fingerprints
        node.is_ready, node.is_serving = event.is_ready, event.is_serving
        limit = event.core_count if node.limit == -1 else min(node.limit, event.core_count)
        most = 1 if event.is_short_of_memory else limit
        node.core_count = min(most, limit // event.cores_per_worker) if node.is_up else 0
        for session in self.sessions.values():
            if event.present is not None:  # its agent may be another
                session.avoided.discard(event.host)
            if node.core_count:
                self._compare(session, node, actions)
        self.leftovers.report(event.host, event.workers, is_first=event.present is not None)
        if node.is_lost:  # its lanes have forgotten what it still runs
            node.is_lost, node.lost_s = False, 0
            actions += self.leftovers.stop_all(event.host)
        for worker_id, session_id in event.workers:
            self._adopt(worker_id, session_id, event.host)
        for worker in self.workers_of(host=event.host) if event.present is not None else ():
            if worker.is_started and worker.worker_id not in (event.present or ()):
                self._lose(worker, f"node {node.name}: it ended while its agent was out of reach", actions)
        actions += self.leftovers.due(self._may_have_workers, [event.host])

    def _may_have_workers(self, session_id: int) -> bool:
        """Whether workers of a session should be anywhere."""
        return session_id in self.sessions and self.sessions[session_id].may_have_workers

    def _adopt(self, worker_id: str, session_id: int, host: str) -> None:
        """Take over a worker that an earlier broker started, or one that was given up and runs on."""
        if worker_id not in self.workers and self._may_have_workers(session_id):
            width = -(-self.sessions[session_id].width // self.nodes[host].cores_per_worker)
            is_draining = self.leftovers.is_condemned(host, worker_id)
            self.workers[worker_id] = Worker(
                worker_id, session_id, host, is_started=True, is_draining=is_draining, core_count=width
            )

    def _on_node_lost(self, event: NodeLost, actions: list[Action]) -> None:
        node = self.nodes[event.host]
        node.core_count, node.state, node.is_ready, node.is_lost = 0, event.reason, False, True
        self.leftovers.forget(event.host)
        for worker in self.workers_of(host=event.host):
            self._lose(worker, f"node {node.name or node.host}: {event.reason}", actions)

    def _on_membership(self, event: NodeJoined | NodeLeaving) -> None:
        if isinstance(event, NodeJoined):
            node = self.nodes.setdefault(event.host, Node(event.host, -1, is_guest=True))
            node.is_leaving, node.lost_s = False, 0
        elif event.host in self.nodes:
            node = self.nodes[event.host]
            node.is_leaving, node.core_count, node.state = True, 0, "leaving"

    def _forget(self, actions: list[Action]) -> None:
        """Let go of nodes that leave and have nothing any more."""
        for host in [node.host for node in self.nodes.values() if node.is_leaving]:
            if not self.workers_of(host=host):
                del self.nodes[host]
                self.leftovers.forget(host)
                actions.append(ForgetNode(host))

    def _lose(self, worker: Worker, reason: str, actions: list[Action]) -> None:
        del self.workers[worker.worker_id]
        node = self._node_name(worker)
        # That a node vanished says little about the task that it ran.
        lost = LoseWorker(
            worker.session_id, worker.worker_id, reason, is_clean=False, node=node, is_blameless=True
        )
        actions.append(lost)

    def _node_name(self, worker: Worker) -> str:
        return self.nodes[worker.host].name or worker.host

    def _on_session_requested(self, event: SessionRequested, actions: list[Action]) -> None:
        if event.session_id in self.sessions:
            raise IllegalMoveError(f"session {event.session_id} was requested twice")
        served = min((other.served for other in self._placement.sessions()), default=0.0)
        self.sessions[event.session_id] = Session(
            event.session_id,
            event.job_ids,
            event.is_local,
            max_workers=event.max_workers,
            weight=event.weight,
            served=served,
            is_admitted=event.resumed is not None,
            is_resumed=event.resumed is not None,
            width=event.width,
            fingerprint=event.fingerprint,
        )
        for node in self.nodes.values():
            if node.core_count:
                self._compare(self.sessions[event.session_id], node, actions)
        for worker_id, host in event.resumed or ():
            self._adopt(worker_id, event.session_id, host)
        self._tell_queue(actions)

    def _compare(self, session: Session, node: Node, actions: list[Action]) -> None:
        found = () if session.is_local else session.compare(node)
        if found:
            actions.append(LeaveOut(node.host, session.session_id, found))

    def _on_session_ended(self, event: SessionEnded, actions: list[Action]) -> None:
        if self.sessions.pop(event.session_id, None) is None:
            return
        hosts = dict.fromkeys(worker.host for worker in self.workers_of(session_id=event.session_id))
        self.leftovers.condemn(event.session_id)
        actions += [StopWorkers(host, event.session_id, event.is_forced) for host in hosts]
        self._tell_queue(actions)

    def _tell_queue(self, actions: list[Action]) -> None:
        """Tell the sessions that wait for their turn which jobs are before them, if that is news."""
        ahead: list[int] = []
        room = max(0, self.serialize_jobs - self._executing_count())
        for session in self.sessions.values():  # in order of request
            if session.job_ids and not session.is_admitted and self.serialize_jobs:
                room -= 1
                told = tuple(ahead[:MAX_AHEAD])
                if room < 0 and told != session.ahead:
                    session.ahead = told
                    actions.append(Queue(session.session_id, told))
            ahead += session.job_ids[:MAX_AHEAD]

    def _on_worker_exited(self, event: WorkerExited, actions: list[Action]) -> None:
        worker = self.workers.pop(event.worker_id, None)
        session = self.sessions.get(worker.session_id) if worker else None
        if worker is None or session is None:
            return
        node, last_output = self._node_name(worker), event.last_output
        actions.append(
            LoseWorker(
                session.session_id,
                event.worker_id,
                event.reason,
                event.is_clean,
                node,
                last_output,
                event.is_blameless,
            )
        )
        if event.is_clean or event.is_blameless or session.is_failed:
            return
        session.deaths[worker.host] += 1
        session.last_death = event.reason + (f" ({last_output[-1]})" if last_output else "")
        if session.deaths[worker.host] >= deaths.patience(worker.host, self._usable(session)):
            session.avoided.add(worker.host)
        self._check_deaths(session, actions)

    def _usable(self, session: Session) -> dict[str, int]:
        """Cores of the nodes that are up and have what a session needs, by host."""
        nodes = [
            node for node in self.nodes.values() if node.core_count and node.host not in session.left_out
        ]
        return {node.host: node.core_count for node in nodes}

    def _check_deaths(self, session: Session, actions: list[Action]) -> None:
        """Give up a session whose workers die wherever they are."""
        if session.is_failed or not session.deaths:
            return
        if deaths.is_too_many(session.deaths, session.avoided, self._usable(session)):
            session.is_failed = True
            count = session.deaths.total()
            reason = f"{count} workers died and no task was done; the last: {session.last_death}"
            actions.append(FailSession(session.session_id, reason))

    def _is_full(self) -> bool:
        return 0 < self.serialize_jobs <= self._executing_count()

    def _executing_count(self) -> int:
        return sum(session.is_admitted and bool(session.job_ids) for session in self.sessions.values())

    def _admit(self, actions: list[Action]) -> None:
        for session in self.sessions.values():  # in order of request
            if session.is_admitted or (session.job_ids and self._is_full()):
                continue  # who has no job has no turn to wait for
            session.is_admitted = True
            actions.append(Admit(session.session_id))

    def _draining_count(self, session: Session) -> int:
        return sum(worker.is_draining for worker in self.workers_of(session_id=session.session_id))
