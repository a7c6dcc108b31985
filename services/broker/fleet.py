"""The fleet core: which session executes, and which cores are whose.

Pure: events in, actions out. Knows nodes, sessions and workers by name; refuses to know sockets,
clocks and processes. Cores are divided evenly among the admitted sessions; a core is counted as
taken from the order to start its worker until the report of that worker's exit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from quakegrid.config import HostCores
from quakegrid.errors import IllegalMoveError

# --- events


@dataclass(frozen=True, slots=True)
class NodeReported:
    """A node's agent said what it has; cores count only while the template is warm.

    `present` names its workers when we reached the agent (again): what ended meanwhile was not reported.
    """

    host: str
    node: str
    core_count: int
    state: str
    present: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class NodeLost:
    """A node's agent does not answer; what it ran counts as lost."""

    host: str
    reason: str


@dataclass(frozen=True, slots=True)
class SessionRequested:
    """A driver asks for its turn; a local session wants no workers, `max_workers` 0 is no limit."""

    session_id: int
    job_ids: tuple[int, ...]
    is_local: bool = False
    max_workers: int = 0


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session is over, for whatever reason; `is_forced` kills what its workers run."""

    session_id: int
    is_forced: bool


@dataclass(frozen=True, slots=True)
class WorkersStarted:
    """An agent started these workers."""

    worker_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkersRefused:
    """An agent did not start these workers."""

    worker_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """A worker's process ended."""

    worker_id: str
    reason: str
    is_clean: bool


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """A task of the session was done, or given up: its workers can work, if not on that one."""

    session_id: int


Event = (
    NodeReported
    | NodeLost
    | SessionRequested
    | SessionEnded
    | WorkersStarted
    | WorkersRefused
    | WorkerExited
    | ProgressMade
)

# --- actions


@dataclass(frozen=True, slots=True)
class Admit:
    """Let the session submit tasks."""

    session_id: int


@dataclass(frozen=True, slots=True)
class Queue:
    """Tell the session that it waits, and for whom."""

    session_id: int
    ahead_job_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StartWorkers:
    """Ask a node's agent for workers under these names."""

    host: str
    session_id: int
    worker_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Let a worker end after the task that it holds."""

    session_id: int
    worker_id: str


@dataclass(frozen=True, slots=True)
class StopWorkers:
    """Stop all workers of a session on a node."""

    host: str
    session_id: int
    is_forced: bool


@dataclass(frozen=True, slots=True)
class LoseWorker:
    """Tell the session's lane that a worker is gone."""

    session_id: int
    worker_id: str
    reason: str
    is_clean: bool


@dataclass(frozen=True, slots=True)
class FailSession:
    """End a session whose workers cannot work."""

    session_id: int
    reason: str


Action = Admit | Queue | StartWorkers | DrainWorker | StopWorkers | LoseWorker | FailSession


@dataclass(slots=True)
class Node:
    """A machine of `host_cores`; `core_count` is what we may use of it now, 0 while it is not up."""

    host: str
    limit: int
    name: str = ""
    core_count: int = 0
    state: str = "not reached yet"


@dataclass(slots=True)
class Session:
    """One driver's jobs; `failure_count` counts worker deaths since the last task was done."""

    session_id: int
    job_ids: tuple[int, ...]
    is_local: bool
    max_workers: int = 0
    is_admitted: bool = False
    failure_count: int = 0


@dataclass(slots=True)
class Worker:
    """A core in use: whose it is and where."""

    worker_id: str
    session_id: int
    host: str
    is_started: bool = False
    is_draining: bool = False


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
    _worker_number: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.nodes = {item.host: Node(item.host, item.cores) for item in self.hosts}

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
            case WorkersStarted():
                self._on_workers_started(event)
                return actions
            case WorkersRefused():
                self._on_workers_refused(event)
                return actions
            case ProgressMade():
                self._on_progress_made(event)
                return actions
            case NodeReported():
                self._on_node_reported(event, actions)
            case NodeLost():
                self._on_node_lost(event, actions)
            case SessionRequested():
                self._on_session_requested(event, actions)
            case SessionEnded():
                self._on_session_ended(event, actions)
            case WorkerExited():
                self._on_worker_exited(event, actions)
            case _ as unreachable:
                assert_never(unreachable)
        self._admit(actions)
        self._place(actions)
        return actions

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        for node in self.nodes.values():
            taken = len(self.workers_of(host=node.host))
            if node.core_count and taken > node.core_count:
                raise IllegalMoveError(f"{node.host} has {node.core_count} cores and {taken} workers")
        admitted = self._executing_count()
        if self.serialize_jobs and admitted > self.serialize_jobs:
            raise IllegalMoveError(f"{admitted} sessions execute, {self.serialize_jobs} may")

    def _on_workers_started(self, event: WorkersStarted) -> None:
        for worker_id in event.worker_ids:
            if worker_id in self.workers:
                self.workers[worker_id].is_started = True

    def _on_workers_refused(self, event: WorkersRefused) -> None:
        for worker_id in event.worker_ids:  # the next report of the node says when to try again
            self.workers.pop(worker_id, None)

    def _on_progress_made(self, event: ProgressMade) -> None:
        session = self.sessions.get(event.session_id)
        if session is not None:
            session.failure_count = 0

    def _on_node_reported(self, event: NodeReported, actions: list[Action]) -> None:
        node = self.nodes[event.host]
        node.name, node.state = event.node, event.state
        limit = event.core_count if node.limit == -1 else min(node.limit, event.core_count)
        node.core_count = limit if event.state.startswith("warm") else 0
        for worker in self.workers_of(host=event.host) if event.present is not None else ():
            if worker.is_started and worker.worker_id not in (event.present or ()):
                self._lose(worker, f"node {node.name}: it ended while its agent was out of reach", actions)

    def _on_node_lost(self, event: NodeLost, actions: list[Action]) -> None:
        node = self.nodes[event.host]
        node.core_count, node.state = 0, event.reason
        for worker in self.workers_of(host=event.host):
            self._lose(worker, f"node {node.name or node.host}: {event.reason}", actions)

    def _lose(self, worker: Worker, reason: str, actions: list[Action]) -> None:
        del self.workers[worker.worker_id]
        actions.append(LoseWorker(worker.session_id, worker.worker_id, reason, is_clean=False))

    def _on_session_requested(self, event: SessionRequested, actions: list[Action]) -> None:
        if event.session_id in self.sessions:
            raise IllegalMoveError(f"session {event.session_id} was requested twice")
        ahead = tuple(job_id for other in self.sessions.values() for job_id in other.job_ids)
        self.sessions[event.session_id] = Session(
            event.session_id, event.job_ids, event.is_local, event.max_workers
        )
        if self._is_full() and event.job_ids:
            actions.append(Queue(event.session_id, ahead))

    def _on_session_ended(self, event: SessionEnded, actions: list[Action]) -> None:
        if self.sessions.pop(event.session_id, None) is None:
            return
        hosts = dict.fromkeys(worker.host for worker in self.workers_of(session_id=event.session_id))
        actions += [StopWorkers(host, event.session_id, event.is_forced) for host in hosts]

    def _on_worker_exited(self, event: WorkerExited, actions: list[Action]) -> None:
        worker = self.workers.pop(event.worker_id, None)
        session = self.sessions.get(worker.session_id) if worker else None
        if worker is None or session is None:
            return
        actions.append(LoseWorker(session.session_id, worker.worker_id, event.reason, event.is_clean))
        if event.is_clean:
            return
        session.failure_count += 1
        if session.failure_count > 3 * self.core_count + 3:
            reason = f"{session.failure_count} workers died and no task was done; the last: {event.reason}"
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

    def _place(self, actions: list[Action]) -> None:
        admitted = [each for each in self.sessions.values() if each.is_admitted and not each.is_local]
        if not admitted:
            return
        targets = _share(self.core_count, [session.max_workers for session in admitted])
        for session, target in zip(admitted, targets, strict=True):
            workers = self.workers_of(session_id=session.session_id)
            staying = [worker for worker in workers if not worker.is_draining]
            for worker in staying[max(target, 1) :] if len(admitted) > 1 else ():
                worker.is_draining = True
                actions.append(DrainWorker(session.session_id, worker.worker_id))
            self._start(session, target - len(staying), actions)

    def _start(self, session: Session, wanted: int, actions: list[Action]) -> None:
        for node in self.nodes.values():
            count = min(wanted, node.core_count - len(self.workers_of(host=node.host)))
            if count <= 0:
                continue
            names = tuple(self._new_worker(session.session_id, node.host) for _ in range(count))
            actions.append(StartWorkers(node.host, session.session_id, names))
            wanted -= count

    def _new_worker(self, session_id: int, host: str) -> str:
        self._worker_number += 1
        worker_id = f"{self.run_name}-{self._worker_number}"
        self.workers[worker_id] = Worker(worker_id, session_id, host)
        return worker_id


def _share(core_count: int, limits: Sequence[int]) -> list[int]:
    """Divide cores evenly, max-min: what a session may not use (its limit, 0 for none) goes to the others."""
    shares = [0] * len(limits)
    open_numbers = list(range(len(limits)))
    while core_count and open_numbers:
        share, extra = divmod(core_count, len(open_numbers))
        for place, number in enumerate(open_numbers):
            wanted = share + (place < extra)
            given = min(wanted, limits[number] - shares[number]) if limits[number] else wanted
            shares[number] += given
            core_count -= given
        open_numbers = [
            number for number in open_numbers if not limits[number] or shares[number] < limits[number]
        ]
    return shares
