"""How a calculation ends that is told to stop, or that the engine ends with words of its own."""

from __future__ import annotations

import pytest

from quakegrid import errors
from quakegrid.engine.driver import stops
from quakegrid.engine.driver.stops import End, StopReason


class MasterKilled(KeyboardInterrupt):
    """As the engine's own."""


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), MasterKilled("killed"), SystemExit("Killed 5")])
def test_exception_after_a_signal_is_an_abort_with_its_reason(exc: BaseException) -> None:
    """What the engine raises then has no words for people."""
    assert stops.judge(exc, "aborted by ann") == End("aborted", "aborted by ann")


def test_words_of_the_engine_are_a_failure() -> None:
    """It ends a calculation without hazard by `sys.exit`, which is no abort."""
    words = "Cannot do any disaggregation: zero hazard"

    assert stops.judge(SystemExit(words), "") == End("failed", words)


@pytest.mark.parametrize("code", [None, 0, 1, 3])
def test_exit_without_words_is_a_failure_with_its_code(code: int | None) -> None:
    """Nothing that leaves a calculation early is a success."""
    end = stops.judge(SystemExit(code), "")

    assert end.state == "failed"
    assert f"exit code {code or 0}" in end.reason


def test_worker_killed_under_the_engine_is_a_failure() -> None:
    """The engine raises its MasterKilled for that, too."""
    assert stops.judge(MasterKilled("A worker was killed: pid=7"), "") == End(
        "failed", "A worker was killed: pid=7"
    )


def test_bare_interrupt_is_an_abort() -> None:
    """A Ctrl-C whose signal we did not see."""
    assert stops.judge(KeyboardInterrupt(), "").state == "aborted"


def test_error_after_a_signal_stays_a_failure() -> None:
    """Only what signals raise is an abort."""
    assert stops.judge(ValueError("bad"), "aborted by ann") == End("failed", "ValueError: bad")


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (ValueError("bad\n  value"), "ValueError: bad value"),
        (ValueError("ValueError: bad"), "ValueError: bad"),
        (ValueError('x\n  File "a.py", line 3\nKeyError: 5'), "ValueError: KeyError: 5"),
        (AssertionError(), "AssertionError"),
        (errors.StateError("ours"), "ours"),
    ],
)
def test_exceptions_are_told_on_one_line(exc: BaseException, words: str) -> None:
    """The class only where it says more than the words."""
    assert stops.one_line(exc) == words


@pytest.mark.parametrize("stop_reason", ["", "aborted by " + 2000 * "a" + "\udcff"])
def test_reason_can_be_stored_whatever_it_quotes(stop_reason: str) -> None:
    """It has an end, and no character that does not travel."""
    reason = stops.judge(SystemExit("\udcff" + 5000 * "x"), stop_reason).reason

    assert len(reason) <= 1000
    reason.encode()


def test_lack_of_memory_is_told_in_words() -> None:
    """Its exception has none."""
    assert "memory" in stops.judge(MemoryError(), "").reason


def test_first_reason_counts() -> None:
    """What follows comes from it."""
    reason = StopReason()

    reason.note("aborted by ann")
    reason.note("interrupted")

    assert reason.text == "aborted by ann"
