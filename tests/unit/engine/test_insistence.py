"""Signals that are repeated while a calculation runs, and not after it."""

from __future__ import annotations

import signal
import threading

import pytest

from quakegrid.engine.driver import insistence
from quakegrid.engine.driver.insistence import Insistence

WAIT_S = 20.0


def insisting_threads() -> list[threading.Thread]:
    """Those that repeat a signal."""
    return [thread for thread in threading.enumerate() if thread.name == "insist"]


def test_signal_is_repeated_until_its_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler's exception may get lost, so one signal is not enough."""
    killed: list[int] = []
    is_repeated = threading.Event()

    def kill(_pid: int, number: int) -> None:
        killed.append(number)
        if len(killed) == 2:
            is_repeated.set()

    monkeypatch.setattr(insistence.os, "kill", kill)
    found = Insistence(lambda: True, 0.001)

    found.begin(signal.SIGINT)
    found.begin(signal.SIGINT)
    (thread,) = insisting_threads()
    assert is_repeated.wait(WAIT_S)
    found.end()
    thread.join(WAIT_S)

    assert set(killed) == {signal.SIGINT}
    assert not insisting_threads()


def test_signal_is_not_repeated_when_nothing_runs() -> None:
    """Nobody would ever say that its work is done: a second Ctrl-C would be repeated for ever."""
    Insistence(lambda: False).begin(signal.SIGINT)

    assert not insisting_threads()
