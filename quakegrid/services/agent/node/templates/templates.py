"""The agent's templates: does what the lineage decides, and sends each order to the right template.

Runs in the agent's event loop. A thread looks at the code on disk, since the disk may be slow.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from typing import assert_never

from quakegrid.errors import PeerError
from quakegrid.machine import service_life
from quakegrid.nodes.fingerprint import Fingerprint
from quakegrid.nodes.template_state import TemplateState
from quakegrid.services.agent.linux.exits import describe_exit
from quakegrid.services.agent.linux.user_rights import NO_RIGHTS, UserRights
from quakegrid.services.agent.node.templates import code_stamps
from quakegrid.services.agent.node.templates import silent as silent_templates
from quakegrid.services.agent.node.templates.links import TemplateLinks
from quakegrid.services.agent.node.templates.loaded_codes import LoadedCodes
from quakegrid.services.agent.orders import (
    ChildReport,
    Exited,
    ForkDriver,
    Forked,
    ForkWorker,
    LoadedCode,
    LoadingFailed,
    NotForked,
    OrderRefused,
    Ping,
    Ready,
    Report,
    SignalChild,
)
from quakegrid.services.agent.rules import lineage_events as events
from quakegrid.services.agent.rules.lineage import Lineage
from quakegrid.services.agent.rules.template_reports import as_event
from quakegrid.settings.config import Settings

log = logging.getLogger("quakegrid.agent")
LOOK_S = 3.0


class Templates:
    """One template that takes orders, and older ones that have children left.

    Args:
        settings: of the cluster.
        mark: of this agent.
        on_report: called with the reports of templates on their children.
        on_state: called when `state`, `loaded`, `older` or `is_refreshing` may have changed.
        on_lost: called with the names of children that died with their template, and why.
        rights: of this process over other users.
    """

    def __init__(
        self,
        settings: Settings,
        mark: str,
        *,
        on_report: Callable[[ChildReport], None],
        on_state: Callable[[], None],
        on_lost: Callable[[Sequence[str], str], None],
        rights: UserRights = NO_RIGHTS,
    ) -> None:
        self._settings, self._mark = settings, mark
        self._on_report, self._on_state, self._on_lost = on_report, on_state, on_lost
        self._rights, self._ended = rights, silent_templates.EndedChildren(rights)
        self._stamp = ""
        self._watching: asyncio.Task[None] | None = None
        self._begin()

    def _begin(self) -> None:
        """Begin without a template."""
        self._lineage = Lineage()
        self._codes = LoadedCodes()
        self._links = TemplateLinks(
            self._settings.state_dir,
            self._mark,
            on_report=self._take,
            on_gone=self._on_gone,
            on_not_started=lambda number: self._handle(events.TemplateNotStarted(number)),
        )

    @property
    def state(self) -> TemplateState:
        """What the template that takes orders can do."""
        return self._lineage.state

    @property
    def loaded(self) -> LoadedCode:
        """What the template that takes orders has loaded."""
        return self._codes.of(self._lineage.current)

    @property
    def is_refreshing(self) -> bool:
        """Whether a template with newer code is loading."""
        return bool(self._lineage.successor)

    @property
    def pid(self) -> int:
        """Process id of the template that takes orders, 0 if there is none."""
        return self._links.pid(self._lineage.current)

    @property
    def older(self) -> list[LoadedCode]:
        """What the older templates that still live have loaded, the newest first."""
        return [self._codes.of(number) for number in self._lineage.older]

    def start(self) -> None:
        """Start a template, and watch it and the code on disk from now on."""
        # At a restart the last stamp is good enough: the next look finds later changes.
        self._stamp = self._stamp or code_stamps.look(self._settings.preload)
        self._handle(events.CodeSeen(self._stamp))
        self._watching = asyncio.get_running_loop().create_task(self._watch(), name="templates")
        self._watching.add_done_callback(service_life.must_not_fail)

    def stop(self, timeout_s: float) -> None:
        """Give all templates this much time to end their children, then kill them."""
        if self._watching is not None:
            self._watching.cancel()
        self._links.stop(timeout_s)

    def restart(self) -> None:
        """Replace all templates by a new one; call it while there are no children."""
        self.stop(0.0)
        self._begin()
        self.start()

    def find(self, needed: Fingerprint) -> int:
        """The number of the newest template that has what a session needs; 0 if none has."""
        return self._codes.find(needed, (self._lineage.current, *self._lineage.older))

    def fork(self, order: ForkWorker | ForkDriver, fds: Sequence[int] = (), *, number: int = 0) -> None:
        """Order a child, with copies of descriptors. The order waits while the template is loading.

        Args:
            order: names the child.
            fds: the descriptors.
            number: of the template that is to fork, as `find` gave it just now; 0 for the newest.
        Raises:
            StateError: there is no template.
            PeerError: the order is too large.
            OSError: there are too few descriptors.
        """
        number = self._lineage.for_orders(number)
        self._handle(events.ChildOrdered(number, order.name, isinstance(order, ForkDriver)))
        try:
            self._links.send(number, order, fds)
        except (PeerError, OSError):
            self._handle(events.ChildNotForked(number, order.name))
            raise

    def signal(self, pid: int, signal_number: int) -> None:
        """Send a signal to a child, unless it has ended: then the report of its end is on the way."""
        number = self._lineage.parent_of(pid)
        if number in self._lineage.silent:
            silent_templates.signal_child(self._links.pid(number), pid, signal_number, self._rights)
        elif number:
            self._links.send(number, SignalChild(pid, int(signal_number)))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._stamp = await asyncio.to_thread(code_stamps.look, self._settings.preload)
            was_refreshing, was_state = self.is_refreshing, self.state
            self._report_ended()
            self._handle(events.CodeSeen(self._stamp))
            if was_state.is_ready and not self.state.is_ready:
                log.error("template_silent_with_drivers successor=%d", self._lineage.current)
                self._on_state()
            if self.is_refreshing != was_refreshing:
                log.info("code_changed successor=%d", self._lineage.successor)
                self._on_state()

    def _report_ended(self) -> None:
        """Report the ends of children whose templates do not answer."""
        for pid, status in self._ended.find(self._lineage.doubtful_pids).items():
            number = self._lineage.parent_of(pid)
            # The kill is for the processes that the child left.
            silent_templates.signal_child(self._links.pid(number), pid, signal.SIGKILL, self._rights)
            log.warning("exit_seen template=%d pid=%d", number, pid)
            self._take(number, Exited(pid, status, 0))

    def _take(self, number: int, report: Report) -> None:
        """Take a report of a template, unless no order can have led to it."""
        life = self._lineage.templates.get(number)
        event = as_event(report, life) if life else None
        if event is None:
            self._drop(number, report)
            return
        if isinstance(report, Ready):
            self._codes.store(number, report.code)
            words = "template_ready template=%d state=%r after_s=%.1f"
            log.info(words, number, str(report.state), report.duration_s)
        elif isinstance(report, LoadingFailed):
            log.error("template_failed template=%d reason=%s", number, report.reason)
        actions = self._lineage.handle(event)
        if isinstance(report, Forked | NotForked | Exited):
            self._on_report(report)
        self._perform(actions)
        if isinstance(report, Ready):
            self._on_state()

    def _drop(self, number: int, report: Report) -> None:
        """Drop a report; if it tells of a child that nobody waits for any more, kill the child."""
        if isinstance(report, OrderRefused):
            log.error("order_refused template=%d reason=%s", number, report.reason)
        elif not isinstance(report, Exited):  # the end of a child may have been seen here before
            log.error("report_dropped template=%d report=%s", number, type(report).__name__)
        if isinstance(report, Forked) and number in self._links:
            self._links.send(number, SignalChild(report.pid, signal.SIGKILL))

    def _on_gone(self, number: int, code: int) -> None:
        how = describe_exit(-code if code < 0 else code << 8)
        log.error("template_exited template=%d how=%s", number, how)
        self._links.forget(number)
        self._codes.forget(number)
        self._handle(events.TemplateGone(number, how))
        self._on_state()

    def _handle(self, event: events.Event) -> None:
        self._perform(self._lineage.handle(event))

    def _perform(self, actions: list[events.Action]) -> None:
        for action in actions:
            match action:
                case events.StartTemplate(number, bare_reason, delay_s):
                    self._links.open(number, bare_reason, delay_s)
                case events.StopTemplate(number):
                    log.info("template_stopped template=%d", number)
                    self._codes.forget(number)
                    self._links.close(number)
                    self._on_state()
                case events.KillTemplate(number):
                    log.error("template_silent template=%d", number)
                    self._links.kill(number)
                case events.PingTemplate(number):
                    self._links.send(number, Ping())
                case events.ReportLost(names, reason):
                    self._on_lost(names, reason)
                case _ as unreachable:
                    assert_never(unreachable)
