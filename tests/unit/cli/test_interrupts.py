"""What signals and keys mean for a command that follows a calculation."""

from __future__ import annotations

import signal

import pytest

from quakegrid.cli.following.interrupts import Interrupts, Step


def at_terminal(**changes: bool) -> Interrupts:
    """Of a `run` whose job exists."""
    return Interrupts(**({"is_interactive": True, "may_leave": True} | changes))


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("a", Step.ABORT),
        ("A", Step.ABORT),
        ("d", Step.LEAVE),
        ("D", Step.LEAVE),
        ("g", Step.GO_ON),
        ("", Step.GO_ON),
    ],
)
def test_ctrl_c_asks_and_a_key_answers(key: str, step: Step) -> None:
    """No answer, as from a terminal that is gone, goes on; then another Ctrl-C asks again."""
    interrupts = at_terminal()

    assert interrupts.on_signal(signal.SIGINT) is Step.ASK
    assert interrupts.on_key(key) is step
    assert interrupts.on_signal(signal.SIGINT) is Step.ASK


def test_second_ctrl_c_aborts_and_a_third_asks_nothing_new_of_the_person() -> None:
    """The question is closed by it."""
    interrupts = at_terminal()
    interrupts.on_signal(signal.SIGINT)

    assert interrupts.on_signal(signal.SIGINT) is Step.ABORT
    assert interrupts.on_key("d") is Step.NOTHING


@pytest.mark.parametrize("changes", [{"is_interactive": False}, {"may_leave": False}])
def test_ctrl_c_aborts_where_nothing_can_be_asked(changes: dict[str, bool]) -> None:
    """In a script, and before there is a job."""
    assert at_terminal(**changes).on_signal(signal.SIGINT) is Step.ABORT


def test_ctrl_c_leaves_what_belongs_to_others() -> None:
    """There is nothing to ask."""
    assert at_terminal(may_abort=False, is_owner=False).on_signal(signal.SIGINT) is Step.LEAVE


@pytest.mark.parametrize(
    ("number", "of_owner", "of_others"),
    [
        (signal.SIGTERM, Step.ABORT, Step.LEAVE),
        (signal.SIGQUIT, Step.ABORT, Step.LEAVE),
        (signal.SIGHUP, Step.LEAVE, Step.LEAVE),
        (signal.SIGWINCH, Step.NOTHING, Step.NOTHING),
    ],
)
def test_other_signals(number: int, of_owner: Step, of_others: Step) -> None:
    """A command that is told to end takes along what it has started; a closed terminal does not."""
    assert at_terminal().on_signal(number) is of_owner
    assert at_terminal(is_owner=False).on_signal(number) is of_others


def test_key_without_a_question_is_nothing() -> None:
    """A signal has answered it."""
    assert at_terminal().on_key("a") is Step.NOTHING
