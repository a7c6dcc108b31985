"""The roster core: which worker has which cores of this node, and where each child is in its life.

Pure. Cores have numbers; workers and drivers have names and pids. The roster does not depend on processes,
clocks and sockets. A core is taken from the order to fork until the report of the exit. The events and
actions are in `roster_events`.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import assert_never

from quakegrid.errors import IllegalMoveError
from quakegrid.services.agent.rules.roster_events import (
    CoresServed,
    DriverAsked,
    GraceElapsed,
    KillAsked,
    LimitBroken,
    MemberEvent,
    MemberForked,
    MemberGone,
    OrderMember,
    RosterAction,
    RosterEvent,
    SignalMember,
    StopAsked,
    WorkersAsked,
)

# Between the request to end and the kill.
STOP_GRACE_S = 2.0


class MemberState(Enum):
    """Where a process is in its life."""

    # Ordered from a template, and not forked yet.
    STARTING = "starting"
    # To be killed as soon as it is forked.
    CANCELLED = "cancelled"
    RUNNING = "running"
    # Asked to end, and killed after the grace.
    TERMINATING = "terminating"
    KILLED = "killed"


# A member that breaks a limit stays in its state, since it does not count as one that was asked to end.
MOVES: dict[tuple[MemberState, type[MemberEvent | GraceElapsed]], MemberState] = {
    (MemberState.STARTING, MemberForked): MemberState.RUNNING,
    (MemberState.STARTING, StopAsked): MemberState.CANCELLED,
    (MemberState.STARTING, KillAsked): MemberState.CANCELLED,
    (MemberState.STARTING, LimitBroken): MemberState.STARTING,
    (MemberState.CANCELLED, MemberForked): MemberState.KILLED,
    (MemberState.CANCELLED, StopAsked): MemberState.CANCELLED,
    (MemberState.CANCELLED, KillAsked): MemberState.CANCELLED,
    (MemberState.CANCELLED, LimitBroken): MemberState.CANCELLED,
    (MemberState.RUNNING, StopAsked): MemberState.TERMINATING,
    (MemberState.RUNNING, KillAsked): MemberState.KILLED,
    (MemberState.RUNNING, LimitBroken): MemberState.RUNNING,
    (MemberState.TERMINATING, StopAsked): MemberState.TERMINATING,
    (MemberState.TERMINATING, KillAsked): MemberState.KILLED,
    (MemberState.TERMINATING, LimitBroken): MemberState.KILLED,
    (MemberState.TERMINATING, GraceElapsed): MemberState.KILLED,
    (MemberState.KILLED, StopAsked): MemberState.KILLED,
    (MemberState.KILLED, KillAsked): MemberState.KILLED,
    (MemberState.KILLED, LimitBroken): MemberState.KILLED,
}
_FORKED = frozenset({MemberState.RUNNING, MemberState.TERMINATING, MemberState.KILLED})
_ENDING = frozenset({MemberState.CANCELLED, MemberState.TERMINATING, MemberState.KILLED})


@dataclass(slots=True)
class Member:
    """A worker (with cores) or a driver (without) of this node; pid 0 until it is forked.

    `stop_reason` says which limit it broke, or who wanted it to end. A member is blameless if it ends for no
    fault of its work.
    """

    name: str
    session_id: int
    cores: tuple[int, ...]
    pid: int = 0
    state: MemberState = MemberState.STARTING
    stop_reason: str = ""
    is_blameless: bool = False
    kill_s: float | None = None  # when the grace of one that terminates is over

    @property
    def core(self) -> int:
        """Its first core; -1 for a driver."""
        return self.cores[0] if self.cores else -1

    @property
    def is_ending(self) -> bool:
        """Whether it was asked to end."""
        return self.state in _ENDING


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

    def handle(self, event: RosterEvent, now_s: float) -> Sequence[RosterAction]:
        """Take one event; say whom to order, or whom to signal.

        Raises:
            IllegalMoveError: no member can come to that.
        """
        match event:
            case CoresServed(core_count):
                self.most_count = core_count
                return []
            case WorkersAsked():
                return self._on_workers_asked(event)
            case DriverAsked(name):
                return self._on_driver_asked(name)
            case GraceElapsed():
                return self._on_grace_elapsed(now_s)
            case MemberGone(name):
                del self.members[name]
                return []
            case MemberForked() | StopAsked() | KillAsked() | LimitBroken():
                return self._on_member(event, now_s)
            case _ as unreachable:
                assert_never(unreachable)

    def next_deadline_s(self) -> float | None:
        """When `GraceElapsed` is due, None if it is not."""
        return min((each.kill_s for each in self.members.values() if each.kill_s is not None), default=None)

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
        """Raise `IllegalMoveError` unless every invariant holds."""
        taken = [core for member in self.workers for core in member.cores]
        if len(taken) != len(set(taken)) or not set(taken) <= set(self.cores):
            raise IllegalMoveError(f"cores {list(self.cores)} are given out as {taken}")
        for member in self.members.values():
            if (member.state in _FORKED) != (member.pid > 0):
                raise IllegalMoveError(f"{member.name} is {member.state.value} and has pid {member.pid}")
            if (member.state is MemberState.TERMINATING) != (member.kill_s is not None):
                raise IllegalMoveError(f"{member.name} is {member.state.value}, to be killed {member.kill_s}")

    def _on_workers_asked(self, event: WorkersAsked) -> list[RosterAction]:
        """Enter as many workers as there are cores for, and leave out the rest."""
        fresh = [name for name in dict.fromkeys(event.names) if name not in self.members]
        free, width = self.free_cores, event.width
        groups = [tuple(free[at : at + width]) for at in range(0, len(free) - width + 1, width)]
        entered = [Member(name, event.session_id, cores) for name, cores in zip(fresh, groups, strict=False)]
        self.members.update({member.name: member for member in entered})
        return [OrderMember(member.name) for member in entered]

    def _on_driver_asked(self, name: str) -> list[RosterAction]:
        """Enter a driver; drivers take no core."""
        if name in self.members:
            raise IllegalMoveError(f"{name} is on the roster already")
        self.members[name] = Member(name, 0, ())
        return [OrderMember(name)]

    def _on_member(self, event: MemberEvent, now_s: float) -> list[RosterAction]:
        member = self.members[event.name]
        self._move(member, event, now_s)
        match event:
            case MemberForked(_, pid):
                member.pid = pid
            case LimitBroken(_, reason):
                member.stop_reason = reason
                return [SignalMember(member.pid, signal.SIGKILL)] if member.pid else []
            case StopAsked(_, reason, is_blameless) | KillAsked(_, reason, is_blameless):
                member.stop_reason = reason or member.stop_reason
                member.is_blameless |= is_blameless
            case _ as unreachable:
                assert_never(unreachable)
        if member.state is MemberState.TERMINATING:
            return [SignalMember(member.pid, signal.SIGTERM)]
        return [SignalMember(member.pid, signal.SIGKILL)] if member.state is MemberState.KILLED else []

    def _on_grace_elapsed(self, now_s: float) -> list[RosterAction]:
        overdue = [each for each in self.members.values() if each.kill_s is not None and each.kill_s <= now_s]
        for member in overdue:
            self._move(member, GraceElapsed(), now_s)
        return [SignalMember(member.pid, signal.SIGKILL) for member in overdue]

    def _move(self, member: Member, event: MemberEvent | GraceElapsed, now_s: float) -> None:
        moved = MOVES.get((member.state, type(event)))
        if moved is None:
            raise IllegalMoveError(f"{member.name} is {member.state.value}, and there came {event}")
        member.state = moved
        if moved is not MemberState.TERMINATING:
            member.kill_s = None
        elif member.kill_s is None:
            member.kill_s = now_s + STOP_GRACE_S
