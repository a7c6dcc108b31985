"""The agent's templates: does what the lineage decides, and brings each order to the right one.

Runs in the agent's event loop; looks at the code on disk in a thread, since that may be a slow network disk.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, assert_never

from quakegrid.errors import PeerError
from quakegrid.machine import service_life
from quakegrid.nodes.fingerprint import CLOCK, Fingerprint, differences
from quakegrid.nodes.template_state import TemplateKind, TemplateState
from quakegrid.settings.config import Settings
from services.agent.linux.exits import describe_exit
from services.agent.node.templates import code_stamps
from services.agent.node.templates import silent as silent_templates
from services.agent.node.templates.link import TemplateLink
from services.agent.rules import lineage

log = logging.getLogger("quakegrid.agent")
LOOK_S = 3.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a template found and loaded; `engine_missing` says why there is no engine for drivers."""

    engine_version: str = ""
    engine_missing: str = ""
    fingerprint: dict[str, str] = field(default_factory=dict)


class Templates:
    """One template that takes orders, and older ones that have children left.

    Args:
        settings: of the cluster.
        mark: of this agent.
        on_report: called with what templates tell of their children.
        on_state: called when `state`, `loaded`, `older` or `is_refreshing` may have changed.
        on_lost: called with the names of children that died with their template, and why.
    """

    def __init__(
        self,
        settings: Settings,
        mark: str,
        *,
        on_report: Callable[[dict[str, Any]], None],
        on_state: Callable[[], None],
        on_lost: Callable[[Sequence[str], str], None],
    ) -> None:
        self._settings, self._mark = settings, mark
        self._on_report, self._on_state, self._on_lost = on_report, on_state, on_lost
        self._lineage = lineage.Lineage()
        self._links: dict[int, TemplateLink] = {}
        self._loaded: dict[int, Loaded] = {}
        self._ended = silent_templates.EndedChildren()
        self._stamp = ""
        self._is_stopped = False
        self._watching: asyncio.Task[None] | None = None

    @property
    def state(self) -> TemplateState:
        """What the template that takes orders can do."""
        return self._lineage.state

    @property
    def loaded(self) -> Loaded:
        """What the template that takes orders has loaded."""
        return self._loaded.get(self._lineage.current, Loaded())

    @property
    def is_refreshing(self) -> bool:
        """Whether a template with newer code is loading."""
        return bool(self._lineage.successor)

    def start(self) -> None:
        """Start a template, and watch it and the code on disk from now on."""
        # At a restart what was seen last will do: the next looks find what has changed since.
        self._stamp = self._stamp or code_stamps.look(self._settings.preload)
        self._perform(self._lineage.start(self._stamp))
        self._watching = asyncio.get_running_loop().create_task(self._watch(), name="templates")
        self._watching.add_done_callback(service_life.must_not_fail)

    @property
    def pid(self) -> int:
        """Process id of the template that takes orders, 0 if there is none."""
        link = self._links.get(self._lineage.current)
        return link.pid if link else 0

    def stop(self, timeout_s: float) -> None:
        """Let all templates end what is left of their children, for so long; then kill them."""
        self._is_stopped = True
        if self._watching is not None:
            self._watching.cancel()
        end_s = time.monotonic() + timeout_s
        for link in self._links.values():
            link.stop(max(0.0, end_s - time.monotonic()))

    def restart(self) -> None:
        """Start anew; there are no children."""
        self.stop(0.0)
        self._lineage = lineage.Lineage()
        self._links.clear()
        self._loaded.clear()
        self._is_stopped = False
        self.start()

    @property
    def older(self) -> list[Loaded]:
        """What older templates have loaded that live on, the newest first."""
        return [self._loaded[number] for number in self._lineage.older]

    def find(self, needed: Fingerprint) -> int:
        """The number of the newest template that has what a session needs; 0 if none has."""
        # The clock is the node's, and the broker's to compare.
        asked = {name: value for name, value in needed.items() if name != CLOCK}
        for number in (self._lineage.current, *self._lineage.older):
            if not differences(asked, self._loaded.get(number, Loaded()).fingerprint):
                return number
        return 0

    def order(self, packet: dict[str, Any], fds: Sequence[int] = (), *, number: int = 0) -> None:
        """Pass an order on, with copies of descriptors; it waits for a template that is loading.

        Args:
            packet: the order.
            fds: the descriptors.
            number: of the template that is to fork, as `find` gave it just now; 0 for the newest.
        Raises:
            StateError: there is no template.
            PeerError: the order is too large.
            OSError: there are too few descriptors.
        """
        if packet["order"] == "signal":
            number = self._lineage.parent_of(packet["pid"])
            if number in self._lineage.silent:
                silent_templates.signal_child(self._links[number].pid, packet["pid"], packet["signal"])
            elif number:  # else it ended, and its report is on the way
                self._links[number].order(packet, fds)
            return
        is_driver = packet["order"] == "fork_driver"
        number = self._lineage.on_order(packet["name"], number, is_driver=is_driver)
        try:
            self._links[number].order(packet, fds)
        except (PeerError, OSError):
            self._perform(self._lineage.on_not_forked(number, packet["name"]))
            raise

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            stamp = await asyncio.to_thread(code_stamps.look, self._settings.preload)
            self._stamp = stamp
            was_refreshing, was_state = self.is_refreshing, self.state
            self._report_ended()
            self._perform(self._lineage.on_look(stamp))
            if was_state.is_ready and not self.state.is_ready:
                log.error("template_silent_with_drivers successor=%d", self._lineage.current)
                self._on_state()
            if self.is_refreshing != was_refreshing:
                log.info("code_changed successor=%d", self._lineage.successor)
                self._on_state()

    def _report_ended(self) -> None:
        """Report children that have ended, in place of templates that do not answer."""
        for pid, status in self._ended.find(self._lineage.doubtful_pids).items():
            number = self._lineage.parent_of(pid)
            silent_templates.signal_child(self._links[number].pid, pid, signal.SIGKILL)  # what it left
            log.warning("exit_seen template=%d pid=%d", number, pid)
            self._take(number, {"report": "exited", "pid": pid, "status": status, "peak_memory_bytes": 0})

    def _take(self, number: int, packet: dict[str, Any]) -> None:
        """Take a report of a template; one of a child that it was not told to fork is dropped."""
        is_of_fork = packet["report"] in ("forked", "not_forked")
        if number not in self._links or (is_of_fork and not self._lineage.is_awaited(number, packet["name"])):
            self._drop(number, packet)
            return
        actions: list[lineage.Action] = []
        match packet["report"]:
            case "refused":
                log.error("order_refused template=%d reason=%s", number, packet["reason"])
                return
            case "ready":
                self._on_ready(number, packet)
                return
            case "failed":
                log.error("template_failed template=%d reason=%s", number, packet["reason"])
                self._lineage.on_failed(number, packet["reason"])
                return
            case "pong":
                self._lineage.on_pong(number)
                return
            case "forked":
                self._lineage.on_forked(number, packet["name"], packet["pid"])
            case "not_forked":
                actions = self._lineage.on_not_forked(number, packet["name"])
            case "exited":
                if self._lineage.parent_of(packet["pid"]) != number:
                    return  # we saw it end ourselves
                actions = self._lineage.on_exited(number, packet["pid"])
        self._on_report(packet)
        self._perform(actions)

    def _drop(self, number: int, packet: dict[str, Any]) -> None:
        """Take no note of a report; a child that nobody waits for any more is killed."""
        log.error("report_dropped template=%d report=%s", number, packet["report"])
        if number in self._links and packet["report"] == "forked":
            order = {"order": "signal", "pid": packet["pid"], "signal": int(signal.SIGKILL)}
            self._links[number].order(order)

    def _on_ready(self, number: int, packet: dict[str, Any]) -> None:
        state = TemplateState(TemplateKind(packet["kind"]), packet["reason"])
        self._loaded[number] = Loaded(
            packet["engine_version"], packet["engine_missing"], packet["fingerprint"]
        )
        log.info("template_ready template=%d state=%r after_s=%.1f", number, str(state), packet["duration_s"])
        self._perform(self._lineage.on_ready(number, state))
        self._on_state()

    def _on_gone(self, number: int, code: int) -> None:
        how = describe_exit(-code if code < 0 else code << 8)
        log.error("template_exited template=%d how=%s", number, how)
        self._forget(number)
        self._perform(self._lineage.on_gone(number, how))
        self._on_state()

    def _perform(self, actions: list[lineage.Action]) -> None:
        for action in actions:
            match action:
                case lineage.Start(number, bare_reason, delay_s):
                    self._open(number, bare_reason, delay_s)
                case lineage.Stop(number):
                    log.info("template_stopped template=%d", number)
                    link = self._links[number]
                    self._forget(number)
                    link.stop(0.0)
                    self._on_state()
                case lineage.Kill(number):
                    log.error("template_silent template=%d", number)
                    self._links[number].kill()
                case lineage.Ping(number):
                    self._links[number].order({"order": "ping"})
                case lineage.Lose(names, reason):
                    self._on_lost(names, reason)
                case _ as unreachable:
                    assert_never(unreachable)

    def _open(self, number: int, bare_reason: str, delay_s: float) -> None:
        link = self._links.get(number) or TemplateLink(
            self._settings.state_dir,
            self._mark,
            bare_reason=bare_reason,
            on_report=partial(self._take, number),
            on_gone=partial(self._on_gone, number),
        )
        self._links[number] = link
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._start_link, link, number)
        else:
            self._start_link(link, number)

    def _start_link(self, link: TemplateLink, number: int) -> None:
        """Start the process of a link; where there is no room for one, another is tried in a while."""
        if self._links.get(number) is not link or self._is_stopped:
            return
        try:
            link.start()
        except OSError as exc:
            log.warning("template_not_started template=%d reason=%s", number, exc)
            self._perform(self._lineage.on_not_started(number))

    def _forget(self, number: int) -> None:
        del self._links[number]
        self._loaded.pop(number, None)
