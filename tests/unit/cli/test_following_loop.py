"""The loop of commands that follow a calculation: signals, events, and a terminal that is gone."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from quakegrid.cli.following import loop
from quakegrid.cli.following.interrupts import Interrupts
from quakegrid.cli.following.loop import Ending

Event = dict[str, Any]
JOB: Event = {"event": "job", "job_id": 7}
END: Event = {"event": "exit", "code": 4}


class FakeSource:
    """Gives these events, one a time; sends a signal to this process where one stands between them."""

    def __init__(self, *events: Event | int) -> None:
        self._events = list(events)
        self._fd = os.eventfd(1)
        self.aborts: list[int] = []

    def fileno(self) -> int:
        """Always readable."""
        return self._fd

    def read(self) -> list[Event]:
        """The next event; nothing while a signal is on its way."""
        if not self._events:
            return []
        found = self._events.pop(0)
        if isinstance(found, int):
            os.kill(os.getpid(), found)
            return []
        return [found]

    def abort(self, number: int) -> None:
        """The calculation ends then."""
        self.aborts.append(number)
        self._events = [END]

    def close(self) -> None:
        """Free the descriptor."""
        os.close(self._fd)


class FakeView:
    """Keeps what it is to show; its terminal may be gone."""

    def __init__(self, *, is_gone: bool = False) -> None:
        self.shown: list[str] = []
        self._is_gone = is_gone

    def show(self, event: Event) -> None:
        """Keep it."""
        if self._is_gone:
            raise OSError(errno.EIO, "Input/output error")
        self.shown.append(str(event["event"]))

    def ask(self, is_asking: bool) -> None:
        """Nobody is there."""
        raise AssertionError(is_asking)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """The loop leaves all handlers as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


def followed(source: FakeSource, view: FakeView, interrupts: Interrupts | None = None) -> Ending:
    """Follow a calculation of this command, in a script."""
    try:
        return loop.follow(source, interrupts or Interrupts(is_interactive=False), view)
    finally:
        source.close()


def test_calculation_is_followed_to_its_end() -> None:
    """With its exit code."""
    view = FakeView()

    assert followed(FakeSource(JOB, JOB, END), view) == Ending(4)
    assert view.shown == ["job", "job"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_script_that_is_told_to_end_aborts(number: int) -> None:
    """And stays until the calculation has ended."""
    source, view = FakeSource(JOB, number), FakeView()

    assert followed(source, view) == Ending(4)
    assert (source.aborts, view.shown) == ([number], ["job", "aborting"])


def test_closed_terminal_leaves() -> None:
    """Nothing is asked of the calculation."""
    source = FakeSource(JOB, signal.SIGHUP)

    assert followed(source, FakeView()) == Ending(None, signal.SIGHUP)
    assert source.aborts == []


def test_terminal_that_cannot_be_written_is_closed() -> None:
    """Its signal comes a moment later."""
    assert followed(FakeSource(JOB), FakeView(is_gone=True)) == Ending(None, signal.SIGHUP)


def test_question_that_nobody_can_answer_is_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the command was put into the background meanwhile."""
    monkeypatch.setattr(loop.Keyboard, "open", lambda _keyboard: False)
    source = FakeSource(JOB, signal.SIGINT, END)

    assert followed(source, FakeView(), Interrupts(is_interactive=True, may_leave=True)) == Ending(4)
    assert source.aborts == []


def test_command_leaves_when_it_has_seen_enough() -> None:
    """As `run --detach` does."""
    source, view = FakeSource(JOB, JOB), FakeView()
    try:
        ending = loop.follow(source, Interrupts(is_interactive=False), view, lambda event: event == JOB)
    finally:
        source.close()

    assert (ending, view.shown) == (Ending(None), ["job"])
