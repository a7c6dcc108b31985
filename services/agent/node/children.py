"""The children of this node's templates: the roster, the signals that it asks for, and its timer.

Runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio

from services.agent.node.templates.templates import Templates
from services.agent.rules.roster import GraceElapsed, Roster, RosterEvent


class Children:
    """Workers and drivers.

    Args:
        roster: decides.
        templates: pass the signals on.
    """

    def __init__(self, roster: Roster, templates: Templates) -> None:
        self.roster, self.templates = roster, templates
        self.is_stopping = False  # the agent ends its children, and takes no more
        self._timer: asyncio.TimerHandle | None = None

    def handle(self, event: RosterEvent) -> None:
        """Let the roster take an event, and do what it asks for."""
        loop = asyncio.get_running_loop()
        for action in self.roster.handle(event, loop.time()):
            self.templates.signal(action.pid, action.number)
        if self._timer is not None:
            self._timer.cancel()
        due_s = self.roster.next_deadline_s()
        self._timer = None if due_s is None else loop.call_at(due_s, self.handle, GraceElapsed())
