"""Which event for the lineage a template's report is: those that nothing can have led to are none."""

from __future__ import annotations

from typing import Any

import pytest

from quakegrid.errors import IllegalMoveError
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.services.agent import orders
from quakegrid.services.agent.rules import lineage_events as events
from quakegrid.services.agent.rules.template_life import TemplateLife
from quakegrid.services.agent.rules.template_reports import as_event

WARM = TemplateState(TemplateKind.WARM)
FAILED = TemplateState(TemplateKind.FAILED, "no room")
LOADING = TemplateState(TemplateKind.LOADING)
CODE = orders.LoadedCode()


def ready(state: TemplateState) -> orders.Ready:
    """What a template that has loaded reports."""
    return orders.Ready(state, CODE, 1.0)


def loading() -> TemplateLife:
    """A template that loads, with an order that waits for it."""
    return TemplateLife(3, names={"waiting"})


def warm() -> TemplateLife:
    """A template with a child, and an order for another."""
    return TemplateLife(3, state=WARM, names={"waiting", "forked"}, pids={100: "forked"})


@pytest.mark.parametrize(
    ("life", "report", "event"),
    [
        (warm(), orders.Pong(), events.TemplateAnswered(3)),
        (loading(), ready(WARM), events.TemplateReady(3, WARM)),
        (loading(), orders.LoadingFailed("no room"), events.TemplateFailed(3, "no room")),
        (warm(), orders.Forked("waiting", 101), events.ChildForked(3, "waiting", 101)),
        (warm(), orders.NotForked("waiting", "no memory"), events.ChildNotForked(3, "waiting")),
        (warm(), orders.Exited(100, 0, 0), events.ChildExited(3, 100)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_report_is_an_event(life: TemplateLife, report: orders.Report, event: events.Event) -> None:
    """Each kind of report has one."""
    assert as_event(report, life) == event


@pytest.mark.parametrize(
    ("life", "report"),
    [
        (warm(), orders.OrderRefused("no order")),
        (warm(), ready(WARM)),
        (loading(), ready(FAILED)),
        (loading(), ready(LOADING)),
        (warm(), orders.LoadingFailed("no room")),
        (warm(), orders.Forked("forked", 101)),
        (warm(), orders.Forked("unknown", 101)),
        (warm(), orders.NotForked("forked", "no memory")),
        (warm(), orders.NotForked("unknown", "no memory")),
        (warm(), orders.Exited(101, 0, 0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_report_that_nothing_led_to_is_no_event(life: TemplateLife, report: orders.Report) -> None:
    """Code that the template runs may have sent it."""
    assert as_event(report, life) is None


def test_unknown_report_is_a_mistake_of_ours() -> None:
    """The codec lets none pass."""
    report: Any = "no report"

    with pytest.raises(AssertionError, match="no report"):
        as_event(report, warm())


def test_template_says_once_what_it_can_do() -> None:
    """It works until it is dead."""
    life = warm()

    with pytest.raises(IllegalMoveError, match=r"template 3 is .* and becomes"):
        life.become(FAILED)
    assert life.state == WARM
