"""The agent's roster of cores, and exits in words."""

from __future__ import annotations

import os
import signal

import pytest

from quakegrid.errors import IllegalMoveError
from services.agent.linux.exits import describe_exit, exit_code
from services.agent.rules.roster import Life, Member, Roster


def test_no_more_workers_than_cores_each_on_its_own() -> None:
    """The core limit holds, whatever is asked."""
    roster = Roster([2, 3])

    started = roster.take_cores(1, ["a", "b", "c"])

    assert [(member.name, member.core) for member in started] == [("a", 2), ("b", 3)]
    assert roster.free_cores == []
    roster.check()


def test_core_is_free_after_the_exit() -> None:
    """A stopping worker keeps its core until it is gone."""
    roster = Roster([0])
    roster.take_cores(1, ["a"])
    roster.on_forked("a", 100)

    stopping = roster.on_stop(session_id=1)
    busy = roster.free_cores
    gone = roster.on_exited(100)

    assert stopping[0].life is Life.STOPPING
    assert busy == []
    assert gone is stopping[0]
    assert roster.free_cores == [0]


def test_drivers_take_no_core() -> None:
    """A driver mostly waits for its workers."""
    roster = Roster([0])

    roster.add_driver("driver-1")

    assert roster.free_cores == [0]
    assert [member.name for member in roster.drivers] == ["driver-1"]


def test_name_given_twice_is_refused() -> None:
    """A repeated order starts nothing; a repeated driver is our bug."""
    roster = Roster([0, 1])
    roster.take_cores(1, ["a"])
    roster.add_driver("driver-1")

    assert roster.take_cores(1, ["a"]) == []
    with pytest.raises(IllegalMoveError):
        roster.add_driver("driver-1")


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

    started = roster.take_cores(1, ["a", "b", "c"], width=2)

    assert [(member.name, member.cores, member.core) for member in started] == [
        ("a", (0, 1), 0),
        ("b", (2, 5), 2),
    ]
    assert roster.free_cores == [6]
    roster.check()


def test_dialled_cores_bound_what_is_given_out() -> None:
    """Workers above it keep their cores until they end."""
    roster = Roster([0, 1, 2, 3])
    roster.take_cores(1, ["a", "b", "c"])
    for number, name in enumerate("abc"):
        roster.on_forked(name, 100 + number)

    roster.most_count = 2
    refused = roster.take_cores(1, ["d"])
    roster.on_exited(100)
    still_refused = roster.take_cores(1, ["d"])
    roster.on_exited(101)
    started = roster.take_cores(1, ["d"])

    assert refused == still_refused == []
    assert [member.cores for member in started] == [(0,)]


def test_two_workers_on_a_core_are_found() -> None:
    """The invariant that the roster keeps."""
    roster = Roster([0, 1])
    roster.take_cores(1, ["a"])
    roster.members["b"] = Member("b", 1, (1, 0))

    with pytest.raises(IllegalMoveError):
        roster.check()


def test_width_beyond_all_cores_starts_nothing() -> None:
    """However large the number."""
    roster = Roster([0, 1])

    assert roster.take_cores(1, ["a"], width=(1 << 32) - 1) == []
    assert roster.free_cores == [0, 1]


def test_worker_of_any_name_gives_its_core_back_once() -> None:
    """An empty name is a name, and one that is asked for twice gets one core."""
    roster = Roster([0, 1])

    started = roster.take_cores(1, ["", ""])
    roster.on_forked("", 100)
    gone = roster.on_exited(100)

    assert [member.core for member in started] == [0]
    assert gone is started[0]
    assert roster.free_cores == [0, 1]
