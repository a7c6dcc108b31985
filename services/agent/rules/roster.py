"""The roster core: which worker has which cores of this node, and where each child is in its life.

Pure. Cores have numbers, workers and drivers names and pids. Does not depend on processes, clocks and
sockets. A core is taken from the order to fork until the report of the exit. Members are entered by calls,
which answer at once; everything that happens to them afterwards is an event.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from quakegrid.errors import IllegalMoveError

# Between the request to end and the kill.
STOP_GRACE_S = 2.0


class MemberState(Enum):
    """Where a process is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class MemberForked:
    """The template forked a member."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class StopAsked:
    """A member is to end: gently first, or at once if forced; before it is forked, as soon as it is.

    `reason` says why if somebody is to know. A blameless member ends for nothing that it runs.
    """

    name: str
    is_forced: bool
    reason: str = ""
    is_blameless: bool = False


@dataclass(frozen=True, slots=True)
class LimitBroken:
    """A member went beyond a limit and is killed; its end counts as that of one that fails."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class MemberGone:
    """A member has ended, or was never forked."""

    name: str


@dataclass(frozen=True, slots=True)
class GraceElapsed:
    """The time that `next_deadline_s` named has come."""


MemberEvent = MemberForked | StopAsked | LimitBroken
RosterEvent = MemberEvent | MemberGone | GraceElapsed
MOVES: dict[tuple[MemberState, type[MemberEvent]], MemberState] = {
    (MemberState.STARTING, MemberForked): MemberState.RUNNING,
    (MemberState.STARTING, StopAsked): MemberState.STOPPING,
    (MemberState.STARTING, LimitBroken): MemberState.STARTING,
    (MemberState.RUNNING, StopAsked): MemberState.STOPPING,
    (MemberState.RUNNING, LimitBroken): MemberState.RUNNING,
    (MemberState.STOPPING, MemberForked): MemberState.STOPPING,
    (MemberState.STOPPING, StopAsked): MemberState.STOPPING,
    (MemberState.STOPPING, LimitBroken): MemberState.STOPPING,
}


@dataclass(frozen=True, slots=True)
class SignalMember:
    """Send a signal to a member."""

    pid: int
    number: int


@dataclass(slots=True)
class Member:
    """A worker (with cores) or a driver (without) of this node; pid 0 until it is forked.

    `stop_reason` says which limit it went beyond, or who wanted it to end, if it is ended for that. A member
    is blameless if what it runs has no part in its end.
    """

    name: str
    session_id: int
    cores: tuple[int, ...]
    pid: int = 0
    state: MemberState = MemberState.STARTING
    stop_reason: str = ""
    is_blameless: bool = False
    kill_s: float | None = None  # when its grace is over; infinite when it was killed for that

    @property
    def core(self) -> int:
        """Its first core; -1 for a driver."""
        return self.cores[0] if self.cores else -1


@dataclass(slots=True)
class Roster:
    """All children of the templates.

    Args:
        cores: the core numbers that workers may be pinned to.
        most_count: how many of them workers may have at once; None for all.
    """

    cores: Sequence[int]
    most_count: int | None = None
    members: dict[str, Member] = field(default_factory=dict)

    def handle(self, event: RosterEvent, now_s: float) -> list[SignalMember]:
        """Take one event and say whom to signal.

        Raises:
            IllegalMoveError: no member can come to that.
        """
        match event:
            case GraceElapsed():
                return self._on_grace_elapsed(now_s)
            case MemberGone(name):
                del self.members[name]
                return []
            case MemberForked() | StopAsked() | LimitBroken():
                return self._on_member(event, now_s)
            case _ as unreachable:
                assert_never(unreachable)

    def next_deadline_s(self) -> float | None:
        """When `GraceElapsed` is due, None if it is not."""
        times = [each.kill_s for each in self.members.values() if each.kill_s is not None]
        return min((time_s for time_s in times if time_s < math.inf), default=None)

    def take_cores(self, session_id: int, names: Iterable[str], width: int = 1) -> list[Member]:
        """Enter as many workers as there are cores for, and leave out the rest.

        Args:
            session_id: whose workers they are.
            names: of the workers.
            width: cores of each, >= 1.
        """
        fresh = [name for name in dict.fromkeys(names) if name not in self.members]
        free = self.free_cores
        groups = [tuple(free[at : at + width]) for at in range(0, len(free) - width + 1, width)]
        started = [Member(name, session_id, cores) for name, cores in zip(fresh, groups, strict=False)]
        self.members.update({member.name: member for member in started})
        return started

    def add_driver(self, name: str) -> Member:
        """Enter a driver; drivers take no core."""
        if name in self.members:
            raise IllegalMoveError(f"{name} is on the roster already")
        member = self.members[name] = Member(name, 0, ())
        return member

    @property
    def free_cores(self) -> list[int]:
        """Cores that may be given to a worker now, in order."""
        taken = {core for member in self.members.values() for core in member.cores}
        most_count = len(self.cores) if self.most_count is None else self.most_count
        free = [core for core in self.cores if core not in taken]
        return free[: max(0, most_count - len(taken))]

    @property
    def workers(self) -> list[Member]:
        """The workers."""
        return [member for member in self.members.values() if member.core >= 0]

    @property
    def drivers(self) -> list[Member]:
        """The drivers."""
        return [member for member in self.members.values() if member.core < 0]

    def of_session(self, session_id: int, names: Sequence[str] = ()) -> list[Member]:
        """Workers of a session; all, if no names are given."""
        chosen_names = set(names)
        return [
            member
            for member in self.workers
            if member.session_id == session_id and (not chosen_names or member.name in chosen_names)
        ]

    def of_pid(self, pid: int) -> Member | None:
        """The member that is this process."""
        return next((member for member in self.members.values() if member.pid == pid), None)

    def check(self) -> None:
        """Raise `IllegalMoveError` when two workers share a core, or a member is forked that only starts."""
        taken = [core for member in self.workers for core in member.cores]
        if len(taken) != len(set(taken)) or not set(taken) <= set(self.cores):
            raise IllegalMoveError(f"cores {list(self.cores)} are given out as {taken}")
        for member in self.members.values():
            if (member.state is MemberState.RUNNING) > (member.pid > 0) or (
                member.state is MemberState.STARTING and member.pid
            ):
                raise IllegalMoveError(f"{member.name} is {member.state.value} and has pid {member.pid}")

    def _on_member(self, event: MemberEvent, now_s: float) -> list[SignalMember]:
        member = self.members[event.name]
        moved = MOVES.get((member.state, type(event)))
        if moved is None:
            raise IllegalMoveError(f"{event.name} is {member.state.value}, and there came {event}")
        member.state = moved
        match event:
            case MemberForked(_, pid):
                if member.pid:
                    raise IllegalMoveError(f"{member.name} was forked twice: {member.pid}, {pid}")
                member.pid = pid
                is_stopped = moved is MemberState.STOPPING  # before it was forked
                return [SignalMember(pid, signal.SIGKILL)] if is_stopped else []
            case LimitBroken(_, reason):
                member.stop_reason = reason
                return [SignalMember(member.pid, signal.SIGKILL)] if member.pid else []
            case _:  # StopAsked
                return self._on_stop_asked(member, event, now_s)

    def _on_stop_asked(self, member: Member, event: StopAsked, now_s: float) -> list[SignalMember]:
        member.stop_reason = event.reason or member.stop_reason
        member.is_blameless |= event.is_blameless
        if not member.pid:
            return []
        if event.is_forced:
            return [SignalMember(member.pid, signal.SIGKILL)]
        if member.kill_s is None:
            member.kill_s = now_s + STOP_GRACE_S
        return [SignalMember(member.pid, signal.SIGTERM)]

    def _on_grace_elapsed(self, now_s: float) -> list[SignalMember]:
        actions = []
        for member in self.members.values():
            if member.kill_s is not None and member.kill_s <= now_s:
                member.kill_s = math.inf
                actions.append(SignalMember(member.pid, signal.SIGKILL))
        return actions
