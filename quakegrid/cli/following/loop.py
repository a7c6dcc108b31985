"""The loop of a command that follows a calculation: events in, a view that changes, signals, a question.

Knows neither drivers nor services: a source has the events.
"""

from __future__ import annotations

import errno
import select
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from quakegrid.cli.following.interrupts import Interrupts, Step
from quakegrid.cli.following.keyboard import STDIN, Keyboard
from quakegrid.clients.terminal_signals import Signals

Event = dict[str, Any]


class Source(Protocol):
    """A calculation that is followed."""

    def fileno(self) -> int:
        """Readable when there is something to read."""

    def read(self) -> list[Event]:
        """The events that have come; the last of all is `exit`, with the calculation's exit code."""

    def abort(self, number: int) -> None:
        """Ask the calculation to end, for a signal; it is followed until it has."""


class View(Protocol):
    """What the person sees."""

    def show(self, event: Event) -> None:
        """Show an event."""

    def ask(self, is_asking: bool) -> None:
        """Show the question what Ctrl-C shall mean, or hide it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ends: with the calculation's exit code, or None if it leaves a calculation that goes on.

    `signal_number` is that of the signal that made it leave; 0 for none.
    """

    code: int | None
    signal_number: int = 0


def follow(
    source: Source, interrupts: Interrupts, view: View, is_enough: Callable[[Event], bool] = lambda _: False
) -> Ending:
    """Follow a calculation until it ends, or until this command leaves it.

    Args:
        source: of its events.
        interrupts: decide what signals and keys mean.
        view: shows the events.
        is_enough: tells by an event that the command has seen what it waited for.
    """
    keyboard = Keyboard()
    try:
        with Signals() as signals:
            return _Loop(source, interrupts, view, keyboard).run(signals, is_enough)
    except OSError as exc:
        if exc.errno != errno.EIO:
            raise
        return Ending(None, signal.SIGHUP)  # the terminal is gone, and its signal is on the way
    finally:
        keyboard.close()


class _Loop:
    def __init__(self, source: Source, interrupts: Interrupts, view: View, keyboard: Keyboard) -> None:
        self._source, self._interrupts, self._view = source, interrupts, view
        self._keyboard = keyboard

    def run(self, signals: Signals, is_enough: Callable[[Event], bool]) -> Ending:
        while True:
            ready = self._wait(signals)
            for number in signals.read() if signals.fileno() in ready else ():
                if self._act(self._interrupts.on_signal(number), number):
                    return Ending(None, number)
            # A signal may have answered the question meanwhile.
            is_key = STDIN in ready and self._keyboard.is_open
            if is_key and self._act(self._interrupts.on_key(self._keyboard.read())):
                return Ending(None)
            for event in self._source.read() if self._source.fileno() in ready else ():
                if event["event"] == "exit":
                    return Ending(int(event["code"]))
                self._view.show(event)
                if is_enough(event):
                    return Ending(None)

    def _wait(self, signals: Signals) -> set[int]:
        poller = select.poll()
        poller.register(self._source, select.POLLIN)
        poller.register(signals, select.POLLIN)
        if self._keyboard.is_open:
            poller.register(STDIN, select.POLLIN)
        return {fd for fd, _ in poller.poll()}

    def _act(self, step: Step, number: int = 0) -> bool:
        """Do a step; returns whether the command leaves the calculation."""
        if step is Step.ASK:
            if self._keyboard.open():
                self._view.ask(is_asking=True)
                return False
            step = self._interrupts.on_key("")  # nobody can answer
        elif step is not Step.NOTHING:
            self._end_question()
        if step is Step.ABORT:
            self._view.show({"event": "aborting"})
            self._source.abort(number or signal.SIGINT)
        return step is Step.LEAVE

    def _end_question(self) -> None:
        if self._keyboard.is_open:
            self._keyboard.close()
            self._view.ask(is_asking=False)
