"""The agent's roster under any order of orders, forks, limits, ends and deadlines."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quakegrid.services.agent.rules.roster import STOP_GRACE_S, Member, MemberState, Roster
from quakegrid.services.agent.rules.roster_events import (
    CoresServed,
    DriverAsked,
    GraceElapsed,
    KillAsked,
    LimitBroken,
    MemberForked,
    MemberGone,
    OrderMember,
    RosterAction,
    RosterEvent,
    SignalMember,
    StopAsked,
    WorkersAsked,
)

CORES = range(4)


class RosterMachine(RuleBasedStateMachine):
    """A node with four cores, and what its processes were told."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster(list(CORES))
        self.now_s = 0.0
        self.last_number = 0
        self.signals: dict[int, list[int]] = {}

    def handle(self, event: RosterEvent) -> Sequence[RosterAction]:
        """Hand one event over, and note the signals."""
        actions = self.roster.handle(event, self.now_s)
        for action in actions:
            if isinstance(action, SignalMember):
                assert action.pid > 0
                self.signals[action.pid].append(action.number)
        return actions

    def number(self) -> int:
        """The next free number."""
        self.last_number += 1
        return self.last_number

    @rule(count=st.integers(0, 5))
    def serve(self, count: int) -> None:
        """The core dial is turned."""
        self.handle(CoresServed(count))

    @rule(count=st.integers(1, 3), width=st.integers(1, 3))
    def ask_for_workers(self, count: int, width: int) -> None:
        """No more are entered than cores are free, each with as many cores as it is wide."""
        names = tuple(f"w{self.number()}" for _ in range(count))
        free = self.roster.free_cores

        entered = self.handle(WorkersAsked(1, names, width))

        assert len(entered) == min(count, len(free) // width)
        for action in entered:
            assert isinstance(action, OrderMember)
            assert len(self.roster.members[action.name].cores) == width

    @rule()
    def ask_for_a_driver(self) -> None:
        """It takes no core."""
        free = self.roster.free_cores

        assert self.handle(DriverAsked(name := f"d{self.number()}")) == [OrderMember(name)]
        assert self.roster.free_cores == free

    @precondition(lambda self: self.roster.members)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        """The template forks a member; one that was asked to end meanwhile is killed."""
        waiting = [each for each in self.roster.members.values() if not each.pid]
        if waiting:
            member = data.draw(st.sampled_from(waiting))
            pid, was_cancelled = 1000 + self.number(), member.is_ending
            self.signals[pid] = []
            self.handle(MemberForked(member.name, pid))
            assert self.signals[pid] == ([signal.SIGKILL] if was_cancelled else [])

    @precondition(lambda self: self.roster.members)
    @rule(data=st.data(), kind=st.sampled_from([StopAsked, KillAsked]), is_blameless=st.booleans())
    def ask_to_end(self, data: st.DataObject, kind: type[StopAsked | KillAsked], is_blameless: bool) -> None:
        """A member that was forked is signalled each time; who is blameless stays so."""
        member = self.draw(data)
        was_blameless, count = member.is_blameless, len(self.signals.get(member.pid, ()))

        self.handle(kind(member.name, "asked", is_blameless))

        assert member.is_ending
        assert member.is_blameless == (was_blameless or is_blameless)
        if member.pid:
            assert len(self.signals[member.pid]) == count + 1
            assert kind is StopAsked or self.signals[member.pid][-1] == signal.SIGKILL

    @precondition(lambda self: self.roster.members)
    @rule(data=st.data())
    def break_limit(self, data: st.DataObject) -> None:
        """The member is killed, and does not count as one that was asked to end."""
        member = self.draw(data)
        was_ending = member.is_ending

        self.handle(LimitBroken(member.name, "too much"))

        assert member.is_ending == was_ending
        assert not member.pid or self.signals[member.pid][-1] == signal.SIGKILL

    @precondition(lambda self: self.roster.members)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A member ends, and its cores are free."""
        member = self.draw(data)
        self.handle(MemberGone(member.name))
        assert self.roster.of_pid(member.pid or -1) is None

    @rule(after_s=st.floats(0.0, 2 * STOP_GRACE_S))
    def wait(self, after_s: float) -> None:
        """Time passes, and the deadlines that come meanwhile are kept."""
        end_s = self.now_s + after_s
        while (due_s := self.roster.next_deadline_s()) is not None and due_s <= end_s:
            self.now_s = due_s
            assert self.handle(GraceElapsed())
        self.now_s = end_s

    def draw(self, data: st.DataObject) -> Member:
        """One of the members."""
        return data.draw(st.sampled_from(list(self.roster.members.values())))

    @invariant()
    def roster_is_sound(self) -> None:
        """And one that terminates has its grace, and no more."""
        self.roster.check()
        for member in self.roster.members.values():
            if member.state is MemberState.TERMINATING:
                assert signal.SIGTERM in self.signals[member.pid]
                assert member.kill_s is not None
                assert self.now_s < member.kill_s <= self.now_s + STOP_GRACE_S
            if member.state is MemberState.KILLED:
                assert signal.SIGKILL in self.signals[member.pid]


TestRoster = RosterMachine.TestCase
TestRoster.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
