"""The agent's roster of cores, and exits in words."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.services.agent.linux.exits import describe_exit, exit_code
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
    SignalMember,
    StopAsked,
    WorkersAsked,
)


def take_cores(roster: Roster, session_id: int, names: list[str], width: int = 1) -> list[Member]:
    """Ask for workers; returns those that were entered."""
    actions = roster.handle(WorkersAsked(session_id, tuple(names), width), 0.0)
    return [roster.members[action.name] for action in actions if isinstance(action, OrderMember)]


def end(roster: Roster, pid: int) -> Member:
    """A process ends; returns its member."""
    member = roster.of_pid(pid)
    assert member is not None
    assert roster.handle(MemberGone(member.name), 0.0) == []
    return member


def test_no_more_workers_than_cores_each_on_its_own() -> None:
    """The core limit holds, whatever is asked."""
    roster = Roster([2, 3])

    started = take_cores(roster, 1, ["a", "b", "c"])

    assert [(member.name, member.core) for member in started] == [("a", 2), ("b", 3)]
    assert roster.free_cores == []
    roster.check()


def test_core_is_free_after_the_exit() -> None:
    """A stopping worker keeps its core until it is gone."""
    roster = Roster([0])
    take_cores(roster, 1, ["a"])
    roster.handle(MemberForked("a", 100), 0.0)

    stopping = roster.of_session(1)
    roster.handle(StopAsked("a"), 0.0)
    busy = roster.free_cores
    gone = end(roster, 100)

    assert (stopping[0].state, stopping[0].is_ending) == (MemberState.TERMINATING, True)
    assert busy == []
    assert gone is stopping[0]
    assert roster.free_cores == [0]


def test_drivers_take_no_core() -> None:
    """A driver mostly waits for its workers."""
    roster = Roster([0])

    roster.handle(DriverAsked("driver-1"), 0.0)

    assert roster.free_cores == [0]
    assert [member.name for member in roster.drivers] == ["driver-1"]


def test_name_given_twice_is_refused() -> None:
    """A repeated order starts nothing; a repeated driver is our bug."""
    roster = Roster([0, 1])
    take_cores(roster, 1, ["a"])
    roster.handle(DriverAsked("driver-1"), 0.0)

    assert take_cores(roster, 1, ["a"]) == []
    with pytest.raises(IllegalMoveError):
        roster.handle(DriverAsked("driver-1"), 0.0)


def test_exits_read_as_words_and_shell_codes() -> None:
    """Wait statuses: exit code in the high byte, signal in the low one."""
    assert describe_exit(3 << 8) == "exit code 3"
    assert describe_exit(signal.SIGSEGV) == "killed by SIGSEGV"
    assert "memory" in describe_exit(signal.SIGKILL)
    assert exit_code(3 << 8) == 3
    assert exit_code(signal.SIGTERM) == 143
    assert os.WIFSIGNALED(signal.SIGTERM)


def test_wider_workers_have_cores_of_their_own() -> None:
    """What does not fill a worker stays free."""
    roster = Roster([0, 1, 2, 5, 6])

    started = take_cores(roster, 1, ["a", "b", "c"], width=2)

    assert [(member.name, member.cores, member.core) for member in started] == [
        ("a", (0, 1), 0),
        ("b", (2, 5), 2),
    ]
    assert roster.free_cores == [6]
    roster.check()


def test_dialled_cores_bound_what_is_given_out() -> None:
    """Workers above it keep their cores until they end."""
    roster = Roster([0, 1, 2, 3])
    take_cores(roster, 1, ["a", "b", "c"])
    for number, name in enumerate("abc"):
        roster.handle(MemberForked(name, 100 + number), 0.0)

    roster.handle(CoresServed(2), 0.0)
    refused = take_cores(roster, 1, ["d"])
    end(roster, 100)
    still_refused = take_cores(roster, 1, ["d"])
    end(roster, 101)
    started = take_cores(roster, 1, ["d"])

    assert refused == still_refused == []
    assert [member.cores for member in started] == [(0,)]


def test_two_workers_on_a_core_are_found() -> None:
    """The invariant that the roster keeps."""
    roster = Roster([0, 1])
    take_cores(roster, 1, ["a"])
    roster.members["b"] = Member("b", 1, (1, 0))

    with pytest.raises(IllegalMoveError):
        roster.check()


def test_width_beyond_all_cores_starts_nothing() -> None:
    """However large the number."""
    roster = Roster([0, 1])

    assert take_cores(roster, 1, ["a"], width=(1 << 32) - 1) == []
    assert roster.free_cores == [0, 1]


def test_worker_of_any_name_gives_its_core_back_once() -> None:
    """An empty name is a name, and one that is asked for twice gets one core."""
    roster = Roster([0, 1])

    started = take_cores(roster, 1, ["", ""])
    roster.handle(MemberForked("", 100), 0.0)
    gone = end(roster, 100)

    assert [member.core for member in started] == [0]
    assert gone is started[0]
    assert roster.free_cores == [0, 1]


def running(name: str = "a", pid: int = 100) -> Roster:
    """A roster with one worker that runs."""
    roster = Roster([0, 1])
    take_cores(roster, 1, [name])
    assert roster.handle(MemberForked(name, pid), 0.0) == []
    roster.check()
    return roster


def test_stop_is_gentle_first_and_a_kill_after_the_grace() -> None:
    """A second request does not lengthen the grace, and the kill comes once."""
    roster = running()

    assert roster.next_deadline_s() is None
    assert roster.handle(StopAsked("a"), 10.0) == [SignalMember(100, signal.SIGTERM)]
    assert roster.handle(StopAsked("a"), 11.0) == [SignalMember(100, signal.SIGTERM)]
    assert roster.next_deadline_s() == 10.0 + STOP_GRACE_S
    assert roster.handle(GraceElapsed(), 11.0) == []
    assert roster.handle(GraceElapsed(), 10.0 + STOP_GRACE_S) == [SignalMember(100, signal.SIGKILL)]
    assert roster.next_deadline_s() is None
    assert roster.handle(GraceElapsed(), 100.0) == []
    roster.check()


def test_forced_stop_is_a_kill_and_has_no_deadline() -> None:
    """Who is blameless stays so."""
    roster = running()

    actions = roster.handle(KillAsked("a", "stopped by request", is_blameless=True), 0.0)
    roster.handle(StopAsked("a"), 0.0)

    assert actions == [SignalMember(100, signal.SIGKILL)]
    assert (roster.members["a"].stop_reason, roster.members["a"].is_blameless) == ("stopped by request", True)


def test_member_that_is_stopped_before_it_is_forked_is_killed_then() -> None:
    """Nobody can be signalled before."""
    roster = Roster([0])
    take_cores(roster, 1, ["a"])

    assert roster.handle(StopAsked("a"), 0.0) == []
    assert roster.next_deadline_s() is None
    assert roster.handle(MemberForked("a", 100), 0.0) == [SignalMember(100, signal.SIGKILL)]
    roster.check()


def test_limit_kills_and_leaves_the_blame() -> None:
    """The member does not count as one that was asked to stop."""
    roster = running()

    assert roster.handle(LimitBroken("a", "too much"), 0.0) == [SignalMember(100, signal.SIGKILL)]
    member = roster.members["a"]
    assert (member.state, member.stop_reason, member.is_blameless) == (MemberState.RUNNING, "too much", False)
    take_cores(roster, 1, ["b"])
    assert roster.handle(LimitBroken("b", "too much"), 0.0) == []


def test_kill_of_one_that_terminates_ends_its_grace() -> None:
    """And each further order kills again, since the first signal may be lost."""
    roster = running()
    roster.handle(StopAsked("a"), 0.0)

    killed = roster.handle(KillAsked("a"), 1.0)
    again = roster.handle(StopAsked("a"), 1.5)

    assert killed == again == [SignalMember(100, signal.SIGKILL)]
    assert roster.next_deadline_s() is None
    roster.check()


def test_deadline_of_one_that_does_not_terminate_is_found() -> None:
    """The invariant that the roster keeps."""
    roster = running()
    roster.members["a"].kill_s = 7.0

    with pytest.raises(IllegalMoveError, match="a is running, to be killed"):
        roster.check()


def test_moves_that_the_table_does_not_have_are_our_bugs() -> None:
    """Forked twice, while it runs or stops; or pids that do not fit the state."""
    roster = running()

    with pytest.raises(IllegalMoveError, match="is running"):
        roster.handle(MemberForked("a", 101), 0.0)
    roster.handle(StopAsked("a"), 0.0)
    with pytest.raises(IllegalMoveError, match="is terminating"):
        roster.handle(MemberForked("a", 101), 0.0)
    for state, pid in ((MemberState.RUNNING, 0), (MemberState.STARTING, 7)):
        roster.members["a"].state, roster.members["a"].pid = state, pid
        with pytest.raises(IllegalMoveError, match="has pid"):
            roster.check()


@pytest.mark.parametrize("state", [MemberState.RUNNING, MemberState.KILLED])
def test_member_is_forked_once(state: MemberState) -> None:
    """A second fork would leave a process that nobody knows."""
    roster = Roster([0])
    take_cores(roster, 1, ["a"])
    if state is MemberState.KILLED:
        roster.handle(StopAsked("a"), 0.0)
    roster.handle(MemberForked("a", 100), 0.0)

    with pytest.raises(IllegalMoveError):
        roster.handle(MemberForked("a", 101), 0.0)
    assert roster.members["a"].pid == 100


def test_unknown_event_is_a_mistake_of_ours() -> None:
    """It is not passed over."""
    event: Any = "no event"

    with pytest.raises(AssertionError, match="no event"):
        Roster([0]).handle(event, 0.0)
