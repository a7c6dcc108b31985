"""Workers that the broker stops: their tasks have no part in that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from quakegrid.services.agent.node.workers import Workers
from quakegrid.services.agent.rules.roster import Roster
from quakegrid.services.agent.rules.roster_events import MemberForked, RosterEvent, WorkersAsked


class PlayedChildren:
    """A roster, and nobody who does what it decides."""

    def __init__(self) -> None:
        self.roster = Roster([0, 1])

    def handle(self, event: RosterEvent) -> Sequence[Any]:
        """Take an event."""
        return self.roster.handle(event, 0.0)


@pytest.mark.parametrize("is_forced", [False, True])
def test_worker_that_the_broker_stops_is_blameless(*, is_forced: bool) -> None:
    """An attempt of its task that counted could fail a task that has killed no worker."""
    children = PlayedChildren()
    children.handle(WorkersAsked(1, ("a", "b"), 1))
    for pid, name in enumerate(("a", "b"), 100):
        children.handle(MemberForked(name, pid))
    unused: Any = None
    workers = Workers("n1", children, unused, unused, unused)  # type: ignore[arg-type]

    stopped_count = workers.stop(1, ["a"], is_forced=is_forced)

    members = children.roster.members
    assert stopped_count == 1
    assert (members["a"].is_ending, members["a"].is_blameless) == (True, True)
    assert (members["b"].is_ending, members["b"].is_blameless) == (False, False)
