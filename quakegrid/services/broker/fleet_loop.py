"""The fleet core in the broker's event loop: events in, actions out, one placement a turn.

Everything that changes nodes, sessions or workers goes through `handle`. Decides nothing, and does not know
how actions are done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Never

from quakegrid.services.broker.fleet import events as core
from quakegrid.services.broker.fleet.core import SECOND_S, Fleet
from quakegrid.services.broker.guard import StateGuard, guarded


class FleetLoop:
    """Runs the fleet core.

    Args:
        fleet: the core; others only read it.
        guard: through which events enter.
        perform: does what the core decides, one action after the other.
        on_event: is told of each event first.
    """

    def __init__(
        self,
        fleet: Fleet,
        guard: StateGuard,
        perform: Callable[[core.Action], None],
        on_event: Callable[[core.Event], None],
    ) -> None:
        self.fleet, self._guard, self._perform, self._on_event = fleet, guard, perform, on_event
        self._placing: asyncio.Handle | None = None

    @guarded
    def handle(self, event: core.Event) -> None:
        """Hand an event to the core and do what it wants done at once; cores are divided later this turn."""
        self._on_event(event)
        for action in self.fleet.handle(event, time.monotonic()):
            self._perform(action)
        if self._placing is None and self.fleet.is_placement_due:
            self._placing = asyncio.get_running_loop().call_soon(self._place)

    async def count_seconds(self) -> Never:
        """Tell the core of each second; cancel to stop."""
        while True:
            deadline_s = self.fleet.next_deadline_s()
            delay_s = SECOND_S if deadline_s is None else deadline_s - time.monotonic()
            await asyncio.sleep(max(0.0, delay_s))
            self.handle(core.SecondPassed())

    def stop(self) -> None:
        """Divide no more cores."""
        if self._placing is not None:
            self._placing.cancel()

    @guarded
    def _place(self) -> None:
        self._placing = None
        for action in self.fleet.place():
            self._perform(action)
