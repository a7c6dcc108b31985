"""When a node whose agent does not answer counts as lost.

Runs in the broker's event loop. Does not depend on connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LossTimer:
    """Tells that a node is lost when its agent was silent for the timeout. Made in the event loop.

    Args:
        timeout_s: counted from the agent's last message.
        on_lost: called with the reason when the time is over, and again whenever the reason changes.
    """

    def __init__(self, timeout_s: float, on_lost: Callable[[str], None]) -> None:
        self._timeout_s, self._on_lost = timeout_s, on_lost
        self._heard_s = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None  # from the first failure on
        self._reason = self._told_reason = ""  # of the last failure, and as told

    def hear(self) -> None:
        """Note a message of the agent: the node is not lost."""
        self._heard_s = asyncio.get_running_loop().time()
        if self._timer:
            self._timer.cancel()
            self._timer, self._told_reason = None, ""

    def fail(self, reason: str) -> None:
        """Note that the agent could not be reached, or sent an impossible message."""
        self._reason = reason
        if self._timer is None:
            lost_s = self._heard_s + self._timeout_s
            self._timer = asyncio.get_running_loop().call_at(lost_s, self._lose)
        elif self._told_reason:
            self._lose()

    def stop(self) -> None:
        """Stop the timer; `on_lost` is not called any more."""
        if self._timer:
            self._timer.cancel()

    def _lose(self) -> None:
        if self._reason != self._told_reason:
            self._told_reason = self._reason
            self._on_lost(self._reason)
