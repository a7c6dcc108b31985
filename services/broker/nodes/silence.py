"""When a node whose agent does not answer counts as lost.

Runs in the broker's event loop; knows no connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LossTimer:
    """Tells that a node is lost when nothing was heard of its agent for the timeout; make it in the loop.

    Args:
        timeout_s: from the last word of the agent.
        on_lost: called with the reason when the time is over, and again with each other reason after that.
    """

    def __init__(self, timeout_s: float, on_lost: Callable[[str], None]) -> None:
        self._timeout_s, self._on_lost = timeout_s, on_lost
        self._heard_s = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None  # from the first failure on
        self._reason = self._told_reason = ""  # of the last failure, and as told

    def hear(self) -> None:
        """The agent said something: the node is not lost."""
        self._heard_s = asyncio.get_running_loop().time()
        if self._timer:
            self._timer.cancel()
            self._timer, self._told_reason = None, ""

    def fail(self, reason: str) -> None:
        """The agent could not be reached, or said what cannot be."""
        self._reason = reason
        if self._timer is None:
            lost_s = self._heard_s + self._timeout_s
            self._timer = asyncio.get_running_loop().call_at(lost_s, self._lose)
        elif self._told_reason:
            self._lose()

    def stop(self) -> None:
        """Tell nothing any more."""
        if self._timer:
            self._timer.cancel()

    def _lose(self) -> None:
        if self._reason != self._told_reason:
            self._told_reason = self._reason
            self._on_lost(self._reason)
