"""Which events and actions of the fleet core people are told of, and in which words. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from quakegrid.services.broker.fleet import events as core

# Of an event.
MOST_JOBS = 20
MOST_WORDS = 500


class HappeningKind(Enum):
    """As `FleetEventKind` of the contract."""

    BROKER_STARTED = "broker_started"
    NODE_JOINED = "node_joined"
    NODE_UP = "node_up"
    NODE_STOPPED = "node_stopped"
    NODE_FAILED = "node_failed"
    NODE_LOST = "node_lost"
    NODE_LEFT = "node_left"
    NODE_LEFT_OUT = "node_left_out"
    NODE_CORES = "node_cores"
    NODE_MEMORY = "node_memory"
    WORKER_LOST = "worker_lost"
    SESSION_ENDED = "session_ended"
    LANE_LOST = "lane_lost"
    LEFT_UNSAID = "left_unsaid"


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to tell; the fields are those of `FleetEvent`."""

    kind: HappeningKind
    words: str
    is_trouble: bool = False
    node: str = ""
    session_id: int = 0
    job_ids: tuple[int, ...] = ()
    user_name: str = ""


class _State(Enum):
    """Of a node, as far as people are told of changes."""

    UNHEARD = auto()
    LOADING = auto()
    UP = auto()
    STOPPED = auto()
    FAILED = auto()
    LOST = auto()


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    state: _State = _State.UNHEARD
    core_count: int = 0
    is_short_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class _Session:
    job_ids: tuple[int, ...] = ()
    person: str = ""


class FleetWatcher:
    """Finds what people are told; it is shown all that enters and leaves the fleet core.

    Its tables are as large as those of the core: a row a node, and a row a session.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}
        self._sessions: dict[int, _Session] = {}

    def expect(self, hosts: Iterable[str]) -> None:
        """Note the nodes that were members before: they do not join."""
        for host in hosts:
            self._nodes.setdefault(host, _Node(host))

    def on_event(self, event: core.Event) -> list[Happening]:
        """What an event that enters the core is for people."""
        match event:
            case core.NodeReported():
                return self._reported(event)
            case core.NodeLost(host, reason):
                return self._lost(host, reason)
            case core.NodeJoined(host):
                if host in self._nodes:
                    return []
                self._nodes[host] = _Node(host)
                return [Happening(HappeningKind.NODE_JOINED, f"node {host} joined the fleet", node=host)]
            case core.SessionRequested():
                self._sessions[event.session_id] = _Session(event.job_ids[:MOST_JOBS], event.person)
            case _:
                pass
        return []

    def on_action(self, action: core.Action) -> list[Happening]:
        """What an action that the core wants is for people."""
        match action:
            case core.LeaveOut(host, session_id, differences):
                name, session = self._name(host), self._session(session_id)
                words = f"node {name} is left out by {_called(session_id, session)}: {', '.join(differences)}"
                return [self._of_session(HappeningKind.NODE_LEFT_OUT, words, name, session_id)]
            case core.LoseWorker(end):
                # A worker of a node that was lost or stopped is blameless, and people are told of the node.
                if end.is_clean or end.is_blameless:
                    return []
                session = self._session(end.session_id)
                where = f" on {end.node}" if end.node else ""
                words = f"a worker of {_called(end.session_id, session)}{where} was lost: {end.words}"
                return [self._of_session(HappeningKind.WORKER_LOST, words, end.node, end.session_id)]
            case core.ForgetNode(host):
                name = self._name(host)
                self._nodes.pop(host, None)
                return [Happening(HappeningKind.NODE_LEFT, f"node {name} left the fleet", node=name)]
            case _:
                return []

    def on_session_ended(
        self, session_id: int, user_name: str, reason: str, job_count: int
    ) -> list[Happening]:
        """What the end of a session is for people.

        Args:
            session_id: of the session; the core is told later.
            user_name: whose it was.
            reason: why it ended; empty if its driver closed it.
            job_count: how many jobs it had; 0 is work without a job.
        """
        session = self._sessions.pop(session_id, _Session())
        if not reason and not session.job_ids:
            return []
        more = job_count - len(session.job_ids)
        called = _called(session_id, session) + (f" and {more} more" if session.job_ids and more > 0 else "")
        whose = f" of {user_name}" if user_name else ""
        words = f"{called}{whose} ended{f': {reason}' if reason else ''}"
        is_trouble = bool(reason) and not reason.startswith("aborted by ")
        return [
            Happening(
                HappeningKind.SESSION_ENDED,
                words[:MOST_WORDS],
                is_trouble,
                session_id=session_id,
                job_ids=session.job_ids,
                user_name=user_name,
            )
        ]

    def _reported(self, event: core.NodeReported) -> list[Happening]:
        name = event.node or event.host
        before = self._nodes.get(event.host, _Node(name))
        now = _Node(name, _state_of(event), event.core_count, event.is_short_of_memory)
        self._nodes[event.host] = now
        found = []
        if now.state is not before.state:
            found += _change(now, event.state)
        elif now.state is _State.UP and now.core_count != before.core_count:
            words = f"node {name} gives {_cores(now.core_count)}, {before.core_count} before"
            found.append(Happening(HappeningKind.NODE_CORES, words, node=name))
        if now.is_short_of_memory != before.is_short_of_memory:
            what = "is short of memory: one worker goes on" if now.is_short_of_memory else "has memory again"
            words = f"node {name} {what}"
            found.append(Happening(HappeningKind.NODE_MEMORY, words, now.is_short_of_memory, node=name))
        return found

    def _lost(self, host: str, reason: str) -> list[Happening]:
        before = self._nodes.get(host, _Node(host))
        self._nodes[host] = _Node(before.name, _State.LOST)
        if before.state is _State.LOST:
            return []
        words = f"node {before.name} is not reached: {reason}"[:MOST_WORDS]
        return [Happening(HappeningKind.NODE_LOST, words, is_trouble=True, node=before.name)]

    def _name(self, host: str) -> str:
        return self._nodes.get(host, _Node(host)).name

    def _session(self, session_id: int) -> _Session:
        return self._sessions.get(session_id, _Session())

    def _of_session(self, kind: HappeningKind, words: str, node: str, session_id: int) -> Happening:
        session = self._session(session_id)
        return Happening(
            kind,
            words[:MOST_WORDS],
            is_trouble=True,
            node=node,
            session_id=session_id,
            job_ids=session.job_ids,
            user_name=session.person,
        )


def _state_of(event: core.NodeReported) -> _State:
    if not event.is_serving:
        return _State.STOPPED if event.state == "stopped" else _State.LOADING
    if event.is_ready:
        return _State.UP
    return _State.FAILED if event.state.startswith("failed") else _State.LOADING


def _change(node: _Node, state: str) -> list[Happening]:
    """What people are told of a node that is in another state; nothing while it loads."""
    match node.state:
        case _State.UP:
            words = f"node {node.name} is up: {_cores(node.core_count)}"
            return [Happening(HappeningKind.NODE_UP, words, node=node.name)]
        case _State.STOPPED:
            words = f"node {node.name} was stopped: it takes no new tasks"
            return [Happening(HappeningKind.NODE_STOPPED, words, node=node.name)]
        case _State.FAILED:
            words = f"node {node.name} cannot start workers: {state.removeprefix('failed').lstrip(': ')}"
            return [Happening(HappeningKind.NODE_FAILED, words[:MOST_WORDS], is_trouble=True, node=node.name)]
        case _:
            return []


def _cores(count: int) -> str:
    return "1 core" if count == 1 else f"{count} cores"


def _called(session_id: int, session: _Session) -> str:
    """A session by its jobs, as people know it."""
    if not session.job_ids:
        return f"session {session_id}"
    return f"job{'s' if len(session.job_ids) > 1 else ''} {', '.join(map(str, session.job_ids))}"
