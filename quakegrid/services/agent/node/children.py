"""The children of this node's templates: the roster, the signals that it asks for, and its timer.

Runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio
from typing import assert_never

from quakegrid.services.agent.node.templates.templates import Templates
from quakegrid.services.agent.rules.persons import Account
from quakegrid.services.agent.rules.roster import Member, Roster
from quakegrid.services.agent.rules.roster_events import (
    GraceElapsed,
    MemberGone,
    OrderMember,
    RosterEvent,
    SignalMember,
)


class Children:
    """The workers and drivers of the node.

    Args:
        roster: decides who is signalled.
        templates: pass the signals on.
    """

    def __init__(self, roster: Roster, templates: Templates) -> None:
        self.roster, self.templates = roster, templates
        self.accounts: dict[str, Account] = {}  # of members that run as another user
        self.is_stopping = False  # the agent ends its children, and starts no more
        self._timer: asyncio.TimerHandle | None = None

    def handle(self, event: RosterEvent) -> list[Member]:
        """Let the roster take an event, and send the signals that it asks for.

        Returns:
            The members that the roster has entered; the caller orders them, as it knows what they are to do.
        """
        loop = asyncio.get_running_loop()
        if isinstance(event, MemberGone):
            self.accounts.pop(event.name, None)
        entered = []
        for action in self.roster.handle(event, loop.time()):
            match action:
                case OrderMember(name):
                    entered.append(self.roster.members[name])
                case SignalMember(pid, number):
                    self.templates.signal(pid, number)
                case _ as unreachable:
                    assert_never(unreachable)
        if self._timer is not None:
            self._timer.cancel()
        due_s = self.roster.next_deadline_s()
        self._timer = None if due_s is None else loop.call_at(due_s, self.handle, GraceElapsed())
        return entered
