"""Turns a template's report into an event for the lineage. Pure.

A template may run code of users, so a report can be impossible: it tells of a child that was not ordered or
has ended before, or of a state that the template cannot reach. Such a report gives no event.
"""

from __future__ import annotations

from typing import assert_never

from quakegrid.services.agent.orders import (
    Exited,
    Forked,
    LoadingFailed,
    NotForked,
    OrderRefused,
    Pong,
    Ready,
    Report,
)
from quakegrid.services.agent.rules.lineage_events import (
    ChildExited,
    ChildForked,
    ChildNotForked,
    Event,
    TemplateAnswered,
    TemplateFailed,
    TemplateReady,
)
from quakegrid.services.agent.rules.template_life import TemplateLife


def as_event(report: Report, life: TemplateLife) -> Event | None:
    """The event for a report of a template; None if the report is impossible, or concerns no state."""
    match report:
        case Pong():
            return TemplateAnswered(life.number)
        case OrderRefused():
            return None
        case Ready(state):
            is_so = state.is_ready and life.may_become(state.kind)
            return TemplateReady(life.number, state) if is_so else None
        case LoadingFailed(reason):
            return TemplateFailed(life.number, reason) if life.is_loading else None
        case Forked(name, pid):
            return ChildForked(life.number, name, pid) if life.is_awaited(name) else None
        case NotForked(name):
            return ChildNotForked(life.number, name) if life.is_awaited(name) else None
        case Exited(pid):
            return ChildExited(life.number, pid) if pid in life.pids else None
        case _ as unreachable:
            assert_never(unreachable)
