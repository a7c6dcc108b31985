"""Which lanes are open on which ports, and on which one each session lives.

Pure: events in, actions out. Knows lanes, ports and sessions by number and their tasks by count; does not
depend on processes, sockets and clocks. A session gets an empty lane, else a new one, else the least loaded.
One empty lane is kept ready, so that no session waits for a start; further lanes that stay empty are closed.
A lane that died is started again on its port, where drivers and workers look for it. From its second death
in a minute on it is started after a pause, since another program may use its port for a while. A port that
is not available, or where lanes die again and again, is not used while there is another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from quakegrid.errors import IllegalMoveError

# An empty lane is closed after this time, unless it is the one that is kept ready.
IDLE_S = 300.0
# A lane that died so often within `DEATHS_S` would die again.
MAX_DEATHS = 10
DEATHS_S = 60.0
# The pause before a lane is started again, by how often it died before; together about half a minute.
PAUSES_S = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

# --- events


@dataclass(frozen=True, slots=True)
class SessionArrived:
    """A session needs a lane."""

    session_id: int


@dataclass(frozen=True, slots=True)
class SessionResumed:
    """A session that an earlier broker had placed needs a lane on its old port, where its peers look."""

    session_id: int
    port: int


@dataclass(frozen=True, slots=True)
class SessionLeft:
    """A session is over."""

    session_id: int


@dataclass(frozen=True, slots=True)
class LoadCounted:
    """How many tasks a session has, queued and running."""

    session_id: int
    task_count: int


@dataclass(frozen=True, slots=True)
class LaneOpened:
    """A lane listens."""

    lane_id: int


@dataclass(frozen=True, slots=True)
class LaneRefused:
    """A lane could not start."""

    lane_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class LaneDied:
    """A lane that was open is gone."""

    lane_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The time of `next_deadline_s` has come; at the beginning: open the first lane."""


SessionEvent = SessionArrived | SessionResumed | SessionLeft | LoadCounted
LaneEvent = LaneOpened | LaneRefused | LaneDied
Event = SessionEvent | LaneEvent | RetryDue

# --- actions


@dataclass(frozen=True, slots=True)
class OpenLane:
    """Start a lane on a port, in place of one that died if it has sessions already."""

    lane_id: int
    port: int
    session_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CloseLane:
    """Stop an empty lane."""

    lane_id: int


@dataclass(frozen=True, slots=True)
class PlaceSession:
    """The session lives on this lane, which listens or is about to."""

    session_id: int
    lane_id: int


@dataclass(frozen=True, slots=True)
class GiveUpSession:
    """The session has no lane, or lost it for good."""

    session_id: int
    reason: str


Action = OpenLane | CloseLane | PlaceSession | GiveUpSession


class LaneState(Enum):
    """Where a lane is in its life."""

    STARTING = "starting"
    OPEN = "open"
    PAUSING = "pausing"


@dataclass(slots=True)
class LanePlace:
    """One lane, the tasks of its sessions by session, and since when it has none.

    A pausing one has no process; it is to be started at `retry_s`.
    """

    lane_id: int
    port: int
    state: LaneState = LaneState.STARTING
    task_counts: dict[int, int] = field(default_factory=dict)
    empty_s: float = 0.0
    deaths_s: tuple[float, ...] = ()
    retry_s: float = 0.0

    @property
    def load(self) -> tuple[int, int]:
        """Its sessions and their tasks: a further session shares the lane with these."""
        return len(self.task_counts), sum(self.task_counts.values())


@dataclass(slots=True)
class LanePlaces:
    """All lanes of a broker.

    Args:
        ports: that lanes may use, at least one.
        limit: lanes at most, at least 1.
    """

    ports: Sequence[int]
    limit: int
    lanes: dict[int, LanePlace] = field(init=False, default_factory=dict)
    refusals: dict[int, str] = field(init=False, default_factory=dict)
    _waiting: dict[int, None] = field(init=False, default_factory=dict)
    _last_id: int = field(init=False, default=0)

    def handle(self, event: Event, now_s: float) -> list[Action]:
        """Take one event and say what is to be done, in order."""
        actions: list[Action] = []
        match event:
            case SessionArrived() | SessionResumed() | SessionLeft() | LoadCounted():
                self._on_session(event, now_s, actions)
            case LaneOpened() | LaneRefused() | LaneDied():
                self._on_lane(event, now_s, actions)
            case RetryDue():
                pass
            case _ as unreachable:
                assert_never(unreachable)
        self._retry(actions, now_s)
        self._place(actions)
        self._open(actions)
        self._close(actions, now_s)
        return actions

    def next_deadline_s(self) -> float | None:
        """When to say that time passed."""
        retries_s = [lane.retry_s for lane in self.lanes.values() if lane.state is LaneState.PAUSING]
        return min([*retries_s, *(lane.empty_s + IDLE_S for lane in self._empty()[1:])], default=None)

    def lane_of(self, session_id: int) -> LanePlace | None:
        """Where a session lives."""
        return next((lane for lane in self.lanes.values() if session_id in lane.task_counts), None)

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        used = [lane.port for lane in self.lanes.values()]
        if len(used) != len(set(used)) or not set(used) <= set(self.ports):
            raise IllegalMoveError(f"lanes use ports {used} of {list(self.ports)}")
        if len(used) > max(self.limit, sum(bool(lane.task_counts) for lane in self.lanes.values()) + 1):
            raise IllegalMoveError(f"{len(used)} lanes, {self.limit} may be")
        placed = [session_id for lane in self.lanes.values() for session_id in lane.task_counts]
        if len(placed) != len(set(placed)) or set(placed) & self._waiting.keys():
            raise IllegalMoveError(f"a session is in two places: {placed}, waiting {list(self._waiting)}")
        if self._waiting and all(lane.state is LaneState.OPEN for lane in self.lanes.values()):
            raise IllegalMoveError(f"sessions {list(self._waiting)} wait for no lane")

    def _on_session(self, event: SessionEvent, now_s: float, actions: list[Action]) -> None:
        match event:
            case SessionArrived(session_id):
                self._waiting[session_id] = None
                if self._free_port() is None:  # a port that was refused may be available by now
                    self.refusals.clear()
            case SessionResumed(session_id, port):
                self._on_session_resumed(session_id, port, actions)
            case SessionLeft(session_id):
                self._on_session_left(session_id, now_s)
            case LoadCounted(session_id, task_count):
                self._on_tasks_counted(session_id, task_count)
            case _ as unreachable:
                assert_never(unreachable)

    def _on_lane(self, event: LaneEvent, now_s: float, actions: list[Action]) -> None:
        match event:
            case LaneOpened(lane_id):
                self.lanes[lane_id].state = LaneState.OPEN
                self.lanes[lane_id].empty_s = now_s
            case LaneRefused(lane_id, reason):
                self._on_lane_refused(self.lanes.pop(lane_id), reason, now_s, actions)
            case LaneDied(lane_id, reason):
                self._on_lane_died(self.lanes.pop(lane_id), reason, now_s, actions)
            case _ as unreachable:
                assert_never(unreachable)

    def _on_session_resumed(self, session_id: int, port: int, actions: list[Action]) -> None:
        if port not in self.ports:
            reason = f"its lane was on port {port}, which [dbserver] receiver_ports no longer names"
            actions.append(GiveUpSession(session_id, reason))
            return
        lane = next((lane for lane in self.lanes.values() if lane.port == port), None)
        if lane and lane.state is LaneState.PAUSING:
            self._start(lane, actions)
        if lane is None:
            self.refusals.pop(port, None)
            self._last_id += 1
            lane = self.lanes[self._last_id] = LanePlace(self._last_id, port)
            actions.append(OpenLane(lane.lane_id, port))
        lane.task_counts[session_id] = 0
        actions.append(PlaceSession(session_id, lane.lane_id))

    def _on_lane_refused(self, gone: LanePlace, reason: str, now_s: float, actions: list[Action]) -> None:
        if gone.task_counts:  # its sessions' peers look for it there: whoever was in the way may leave
            self._on_lane_died(gone, reason, now_s, actions)
        else:
            self._give_port_up(gone, reason, actions)

    def _on_lane_died(self, gone: LanePlace, reason: str, now_s: float, actions: list[Action]) -> None:
        deaths_s = (*(death_s for death_s in gone.deaths_s if now_s - death_s < DEATHS_S), now_s)
        if len(deaths_s) > MAX_DEATHS:
            self._give_port_up(gone, f"{reason}, for the {len(deaths_s)}th time in a minute", actions)
            return
        self._last_id += 1
        pause_s = PAUSES_S[min(len(deaths_s), len(PAUSES_S)) - 1]
        self.lanes[self._last_id] = LanePlace(
            self._last_id,
            gone.port,
            LaneState.PAUSING,
            task_counts=gone.task_counts,
            deaths_s=deaths_s,
            retry_s=now_s + pause_s,
        )

    def _retry(self, actions: list[Action], now_s: float) -> None:
        """Start lanes whose pause is over."""
        for lane in self.lanes.values():
            if lane.state is LaneState.PAUSING and lane.retry_s <= now_s:
                self._start(lane, actions)

    def _start(self, lane: LanePlace, actions: list[Action]) -> None:
        lane.state = LaneState.STARTING
        actions.append(OpenLane(lane.lane_id, lane.port, tuple(lane.task_counts)))

    def _give_port_up(self, gone: LanePlace, reason: str, actions: list[Action]) -> None:
        self.refusals[gone.port] = reason
        actions += [GiveUpSession(session_id, reason) for session_id in gone.task_counts]

    def _on_session_left(self, session_id: int, now_s: float) -> None:
        self._waiting.pop(session_id, None)
        lane = self.lane_of(session_id)
        if lane is not None:
            del lane.task_counts[session_id]
            lane.empty_s = now_s

    def _on_tasks_counted(self, session_id: int, task_count: int) -> None:
        lane = self.lane_of(session_id)
        if lane is not None:
            lane.task_counts[session_id] = task_count

    def _empty(self) -> list[LanePlace]:
        """Open lanes without a session, the oldest first."""
        return [lane for lane in self.lanes.values() if lane.state is LaneState.OPEN and not lane.task_counts]

    def _place(self, actions: list[Action]) -> None:
        """Give waiting sessions the best lane, unless a better one is about to open."""
        for session_id in list(self._waiting):
            lanes = [lane for lane in self.lanes.values() if lane.state is LaneState.OPEN]
            best = min(lanes, key=lambda lane: lane.load, default=None)
            if best is None or (best.task_counts and self._can_grow()):
                return
            best.task_counts[session_id] = 0
            del self._waiting[session_id]
            actions.append(PlaceSession(session_id, best.lane_id))

    def _can_grow(self) -> bool:
        """Whether a lane is starting, will start or can be started."""
        is_starting = any(lane.state is not LaneState.OPEN for lane in self.lanes.values())
        return is_starting or self._free_port() is not None

    def _free_port(self) -> int | None:
        if len(self.lanes) >= self.limit:
            return None
        used = {lane.port for lane in self.lanes.values()}
        return next((port for port in self.ports if port not in used and port not in self.refusals), None)

    def _open(self, actions: list[Action]) -> None:
        """Start what waiting sessions need, and one lane to spare."""
        fresh = sum(not lane.task_counts for lane in self.lanes.values())
        while fresh < len(self._waiting) + 1:
            port = self._free_port()
            if port is None:
                break
            self._last_id += 1
            fresh += 1
            self.lanes[self._last_id] = LanePlace(self._last_id, port)
            actions.append(OpenLane(self._last_id, port))
        if self._waiting and not self.lanes:
            self._give_up(actions)

    def _give_up(self, actions: list[Action]) -> None:
        """No port is available: the sessions that wait fail."""
        reasons = "; ".join(dict.fromkeys(self.refusals.values()))
        actions += [
            GiveUpSession(session_id, f"no lane can be started: {reasons}") for session_id in self._waiting
        ]
        self._waiting.clear()

    def _close(self, actions: list[Action], now_s: float) -> None:
        for lane in self._empty()[1:]:
            if lane.empty_s + IDLE_S <= now_s:
                del self.lanes[lane.lane_id]
                actions.append(CloseLane(lane.lane_id))
