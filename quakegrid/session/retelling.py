"""When a driver tells a lane again that does not know its session, and when it gives up. Pure."""

from __future__ import annotations

import math

from quakegrid import errors
from quakegrid.clients.backoff import Backoff


class Retelling:
    """The refusals of one lane.

    A lane that does not know the session may belong to a new broker, which will tell it about the session. Or
    the session is over, and the broker's stream will say so. So the driver tells the lane again for a while.
    Any other refusal is an error.

    Args:
        first_s: before the lane is told again for the first time; twice as long each time.
        patience_s: from the first refusal until the driver gives up.
    """

    def __init__(self, first_s: float, patience_s: float) -> None:
        self._patience_s = patience_s
        self._pauses = Backoff(first_s, math.inf, jitter=0.0)  # the patience ends them
        self._give_up_s = math.inf
        self.due_s = math.inf  # when to tell the lane again; infinity if it has refused nothing since
        self._admission_count = 1  # of the session, when the lane was last told everything, or confirmed it
        # The lane has not answered the last join. A lane that refused a task refuses the join behind it, too.
        self._awaits_answer = False

    def refuse(self, reason: str, now_s: float, *, is_unknown_session: bool, is_join: bool = False) -> None:
        """Note that the lane refused a message.

        Args:
            reason: of the lane.
            now_s: the time.
            is_unknown_session: whether the lane may know the session later.
            is_join: whether the message was a join.
        Raises:
            QuakeGridError: the lane knows the session, or did not know it for too long.
        """
        if is_unknown_session and self._awaits_answer and not is_join:
            return  # the answer to the join says whether the lane is to be told again
        self._awaits_answer = False
        self._give_up_s = min(self._give_up_s, now_s + self._patience_s)
        if not is_unknown_session or now_s >= self._give_up_s:
            raise errors.QuakeGridError(f"the lane refused this session: {reason}")
        if (
            self.due_s == math.inf
        ):  # the lane also refuses the other messages that were sent together with the first
            self.due_s = now_s + self._pauses.next_s()

    def is_due(self, now_s: float, admission_count: int) -> bool:
        """Whether to tell the lane everything again: at once if the session was admitted since.

        A lane that has refused nothing is told nothing twice: what it did meanwhile would be new to it again.

        Args:
            now_s: the time.
            admission_count: how often brokers have admitted the session.
        """
        is_admitted_anew = admission_count != self._admission_count
        return self.due_s < math.inf and (is_admitted_anew or now_s >= self.due_s)

    def begin(self, admission_count: int, *, awaits_answer: bool) -> None:
        """Note that the driver tells the lane everything now.

        Args:
            admission_count: how often brokers have admitted the session.
            awaits_answer: whether the lane says of a refusal that it is that of a join.
        """
        self.due_s, self._admission_count = math.inf, admission_count
        self._awaits_answer = awaits_answer

    def end(self, admission_count: int) -> None:
        """Note that the lane knows the session, and has all that was told before the join that it confirms.

        It is not told again what it refused before that: what it did meanwhile would be new to it.
        """
        self.due_s = self._give_up_s = math.inf
        self._admission_count, self._awaits_answer = admission_count, False
        self._pauses.reset()
