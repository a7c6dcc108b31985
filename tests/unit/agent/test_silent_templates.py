"""Children of a template that does not answer: signals reach them, and their ends are seen."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.services.agent.linux import orphans
from quakegrid.services.agent.linux.processes import has_ended, is_stopped
from quakegrid.services.agent.node.templates.link import TemplateLink
from quakegrid.services.agent.node.templates.silent import EndedChildren, signal_child
from quakegrid.services.agent.node.templates.templates import Templates
from quakegrid.services.agent.orders import ChildReport, Exited, SignalChild
from quakegrid.services.agent.rules import lineage_events as events
from quakegrid.settings import config
from tests.support.clusters import wait_for_end

SCRIPT = "setsid sleep 1000 & echo $!; kill -STOP $$"


@dataclass(frozen=True)
class Family:
    """A stopped process and its child, which leads a group of its own."""

    parent: int
    child: int


@pytest.fixture
def family() -> Iterator[Family]:
    """One that ends with the test."""
    with subprocess.Popen(["sh", "-c", SCRIPT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        while not is_stopped(parent.pid) or os.getpgid(child) != child:
            select.select([], [], [], 0.002)
        yield Family(parent.pid, child)
        parent.kill()
        orphans.kill_group(child)


def test_child_of_a_stopped_process_is_signalled_and_seen_to_end(family: Family) -> None:
    """Its status is the one that its parent would have reported."""
    ended = EndedChildren()
    assert ended.find([family.child]) == {}

    signal_child(family.parent, family.child, signal.SIGTERM)
    wait_for_end(family.child)

    assert ended.find([family.child]) == {family.child: signal.SIGTERM}


def test_process_of_another_parent_is_not_signalled(family: Family) -> None:
    """The number is somebody else's by now."""
    signal_child(os.getpid(), family.child, signal.SIGKILL)

    assert not has_ended(family.child)


def test_child_that_was_reaped_is_reported_at_the_next_look_only() -> None:
    """Its template may just have woken: the report with the true status is on the way."""
    process = subprocess.Popen(["true"])
    process.wait()
    ended = EndedChildren()

    assert ended.find([process.pid]) == {}
    assert ended.find([process.pid]) == {process.pid: signal.SIGKILL}


class StoppedLink(TemplateLink):
    """The link to a template that is stopped: nobody reads its orders."""

    def __init__(self, pid: int) -> None:
        super().__init__(Path(), "", on_report=lambda _report: None, on_gone=lambda _code: None)
        self._pid = pid

    @property
    def pid(self) -> int:
        """The process that is stopped."""
        return self._pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_orders_to_a_silent_template_reach_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: Family, number: signal.Signals
) -> None:
    """Through a socket that nobody reads they would not; the end of the child is reported, too."""
    reports: list[ChildReport] = []
    templates = Templates(
        config.load_settings(tmp_path, {}),
        "mark",
        on_report=reports.append,
        on_state=lambda: None,
        on_lost=lambda _names, _reason: None,
    )
    retire(templates, family)

    templates.signal(family.child, int(number))
    wait_for_end(family.child)
    templates._report_ended()
    templates._report_ended()

    assert reports == [Exited(family.child, int(number), 0)]


def retire(templates: Templates, family: Family) -> None:
    """Let the first template have a driver and a worker, and answer no more."""
    lineage = templates._lineage
    lineage.handle(events.CodeSeen(""))
    lineage.handle(events.TemplateReady(1, TemplateState(TemplateKind.WARM)))
    lineage.handle(events.ChildOrdered(1, "driver-1", is_driver=True))
    lineage.handle(events.ChildForked(1, "driver-1", os.getpid()))
    lineage.handle(events.ChildOrdered(1, "a"))
    lineage.handle(events.ChildForked(1, "a", family.child))
    templates._links._links[1] = StoppedLink(family.parent)
    while not lineage.silent:
        lineage.handle(events.CodeSeen(""))


def test_same_signal_waits_once_for_a_template_that_does_not_read() -> None:
    """The broker repeats it every few seconds."""
    link = StoppedLink(0)

    for number in (2, 9, 2, 9):
        link.send(SignalChild(10, number))

    assert [each.order for each in link._orders] == [SignalChild(10, 2), SignalChild(10, 9)]
