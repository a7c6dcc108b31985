"""What a signal or a key means for a command that follows a calculation. Pure.

On a terminal, Ctrl-C asks: abort, detach or go on. A second Ctrl-C aborts. Elsewhere Ctrl-C aborts at once.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import Enum, auto

ABORT_KEYS, LEAVE_KEYS = "aA", "dD"


class Step(Enum):
    """What to do next."""

    NOTHING = auto()
    # Ask what Ctrl-C shall mean.
    ASK = auto()
    # No answer, or the answer is to go on.
    GO_ON = auto()
    # End the calculation, and follow it until it has ended.
    ABORT = auto()
    # End this command. The calculation goes on.
    LEAVE = auto()


@dataclass(slots=True)
class Interrupts:
    """Decides for one command.

    Args:
        is_interactive: whether there is a person at a terminal to ask.
        may_leave: whether the calculation goes on if this command ends now.
        may_abort: whether this person may end the calculation.
        is_owner: whether this command has started the calculation, so that signals to the command are meant
            for the calculation, too.
    """

    is_interactive: bool
    may_leave: bool = False
    may_abort: bool = True
    is_owner: bool = True
    is_asking: bool = False

    def on_signal(self, number: int) -> Step:
        """What a signal means."""
        if number == signal.SIGINT:
            return self._on_interrupt()
        if number == signal.SIGWINCH:
            return Step.NOTHING
        self.is_asking = False
        # Without its terminal, a calculation goes on.
        return Step.ABORT if self.is_owner and number != signal.SIGHUP else Step.LEAVE

    def on_key(self, key: str) -> Step:
        """What the answer to the question means; an empty one comes from a terminal that is gone."""
        if not self.is_asking:
            return Step.NOTHING
        self.is_asking = False
        if key and key in ABORT_KEYS:
            return Step.ABORT
        return Step.LEAVE if key and key in LEAVE_KEYS else Step.GO_ON

    def _on_interrupt(self) -> Step:
        if not self.may_abort:
            return Step.LEAVE
        is_answer = self.is_asking or not (self.is_interactive and self.may_leave)
        self.is_asking = not is_answer
        return Step.ABORT if is_answer else Step.ASK
