"""When a driver gives up a broker that it cannot reach. Pure."""

from __future__ import annotations

from quakegrid.session.options import Patience


class BrokerPatience:
    """How long one session looks for its broker; the time begins anew with each broker that answers.

    Args:
        patience: the limits.
        is_calculation: the session runs a job, which waits for a first answer; other programs do not wait.
    """

    def __init__(self, patience: Patience, *, is_calculation: bool) -> None:
        self._broker_s, self._open_s = patience.broker_s, patience.open_s if is_calculation else 0.0
        self._give_up_s = 0.0  # 0 while the broker can be reached

    def lose(self, now_s: float, *, was_reached: bool, is_known: bool) -> bool:
        """A stream has ended.

        Args:
            now_s: the time of its end.
            was_reached: a broker had taken the call.
            is_known: a broker has answered the session before.
        Returns:
            Whether the broker was in reach until now.
        """
        is_first = was_reached or not self._give_up_s
        if is_first:
            self._give_up_s = now_s + (self._broker_s if is_known else self._open_s)
        return is_first

    def is_over(self, now_s: float) -> bool:
        """Whether it is time to give up."""
        return now_s >= self._give_up_s
