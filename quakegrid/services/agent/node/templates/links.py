"""The links to all templates that live or are being started, by number. Runs in the agent's event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from quakegrid.services.agent.node.templates import template_config
from quakegrid.services.agent.node.templates.link import TemplateLink
from quakegrid.services.agent.orders import Order, Report

log = logging.getLogger("quakegrid.agent")


class TemplateLinks:
    """One link for each template.

    Args:
        state_dir: of the cluster.
        mark: of this agent, for the environment of all processes that it starts.
        on_report: called with the number of a template and what it reports.
        on_gone: called with the number of a template that is dead, and its exit status.
        on_not_started: called with the number of a template that could not be started for want of room.
    """

    def __init__(
        self,
        state_dir: Path,
        mark: str,
        *,
        on_report: Callable[[int, Report], None],
        on_gone: Callable[[int, int], None],
        on_not_started: Callable[[int], None],
    ) -> None:
        self._state_dir, self._mark = state_dir, mark
        self._on_report, self._on_gone, self._on_not_started = on_report, on_gone, on_not_started
        self._links: dict[int, TemplateLink] = {}
        self._is_stopped = False

    def __contains__(self, number: int) -> bool:
        return number in self._links

    def pid(self, number: int) -> int:
        """Process id of a template, 0 if there is none."""
        link = self._links.get(number)
        return link.pid if link else 0

    def open(self, number: int, bare_reason: str, delay_s: float) -> None:
        """Start a template after a delay. Orders for it may be sent from now on, and wait.

        Args:
            number: of the template.
            bare_reason: why it shall preload nothing; empty if it shall preload.
            delay_s: the delay.
        """
        link = self._links.get(number) or TemplateLink(
            self._state_dir,
            self._mark,
            bare_reason=bare_reason,
            on_report=partial(self._on_report, number),
            on_gone=partial(self._on_gone, number),
        )
        self._links[number] = link
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._start, link, number)
        else:
            self._start(link, number)

    def send(self, number: int, order: Order, fds: Sequence[int] = ()) -> None:
        """Send an order to a template, see `TemplateLink.send`."""
        self._links[number].send(order, fds)

    def kill(self, number: int) -> None:
        """Kill a template; `on_gone` will be called."""
        self._links[number].kill()

    def close(self, number: int) -> None:
        """End a template that has no children."""
        self._links.pop(number).stop(0.0)

    def forget(self, number: int) -> None:
        """Drop the link to a template that is dead."""
        del self._links[number]

    def stop(self, timeout_s: float) -> None:
        """Give all templates this much time to end their children, then kill them. No other is started."""
        self._is_stopped = True
        end_s = time.monotonic() + timeout_s
        for link in self._links.values():
            link.stop(max(0.0, end_s - time.monotonic()))
        template_config.remove(self._state_dir)

    def _start(self, link: TemplateLink, number: int) -> None:
        if self._links.get(number) is not link or self._is_stopped:
            return
        try:
            link.start()
        except OSError as exc:
            log.warning("template_not_started template=%d reason=%s", number, exc)
            self._on_not_started(number)
