"""The agent's link to one template: its process, the orders that wait for it, the reports that come from it.

Does not depend on what the orders mean. Runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quakegrid.errors import PeerError
from quakegrid.services.agent.node.templates import template_config
from quakegrid.services.agent.orders import EndTemplate, ForkDriver, ForkWorker, NotForked, Order, Report
from quakegrid.services.agent.packets import BUSY_ERRORS, close_all, encode_order, receive_report, send
from quakegrid.settings.config import AGENT_MARK

log = logging.getLogger("quakegrid.agent")
# How often, and for how long, an order is tried again when the kernel has no room; then it is refused.
BUSY_PAUSE_S = 0.1
MAX_BUSY_TRIES = 50


@dataclass(frozen=True, slots=True)
class _WaitingOrder:
    """An order that waits until its template reads it, with copies of its descriptors."""

    order: Order
    packet: bytes
    fds: tuple[int, ...]


class TemplateLink:
    """One template process.

    Args:
        state_dir: of the cluster; the template reads a copy of its configuration, without the authkey.
        mark: of this agent, for the environment of all processes that it starts.
        bare_reason: why the template shall preload nothing; empty if it shall preload.
        on_report: called with each report.
        on_gone: called with the exit status when the template is dead, and its children with it.
    """

    def __init__(
        self,
        state_dir: Path,
        mark: str,
        *,
        bare_reason: str = "",
        on_report: Callable[[Report], None],
        on_gone: Callable[[int], None],
    ) -> None:
        self._state_dir, self._mark, self._bare_reason = state_dir, mark, bare_reason
        self._on_report, self._on_gone = on_report, on_gone
        self._orders: collections.deque[_WaitingOrder] = collections.deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._busy_count = 0
        self._is_pausing = False

    @property
    def pid(self) -> int:
        """The template's process id, 0 before it was started."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start a template, and send it the orders that wait.

        Raises:
            OSError: there is no room for another process, no descriptor, or the configuration cannot be read
                or written; `start` may be called again.
        """
        environ = template_config.environ_of(self._state_dir, os.environ)
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-P", "-m", "quakegrid.services.agent.template", str(self._state_dir)]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno()), self._bare_reason],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    # The order of sets is in the pickles by which a journal knows what its driver submits.
                    env={**os.environ, **environ, AGENT_MARK: self._mark, "PYTHONHASHSEED": "0"},
                )
            except OSError:
                control.close()
                raise
        control.setblocking(False)
        self._control = control
        asyncio.get_running_loop().add_reader(control, self._read)
        self._send()

    def stop(self, timeout_s: float) -> None:
        """Give the template this much time to end its children, then kill it."""
        self.send(EndTemplate())  # so that the template knows that the agent lives on
        self._close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Kill the template; `on_gone` will be called."""
        if self._process is not None:
            self._process.kill()

    def send(self, order: Order, fds: Sequence[int] = ()) -> None:
        """Queue an order, with copies of descriptors. It waits while the template is being started.

        An order without descriptors that waits already is not queued again. Otherwise repeated orders would
        fill the memory while a template does not read.

        Raises:
            PeerError: the order is too large.
            OSError: there are too few descriptors for the copies; nothing is queued.
        """
        packet = encode_order(order)
        if not fds and any(each.packet == packet and not each.fds for each in self._orders):
            return
        copies: list[int] = []
        try:
            copies.extend(map(os.dup, fds))
        except OSError:
            close_all(copies)
            raise
        self._orders.append(_WaitingOrder(order, packet, tuple(copies)))
        self._send()

    def _read(self) -> None:
        assert self._control is not None
        try:
            report = receive_report(self._control)
        except BlockingIOError:
            return
        except ConnectionResetError:
            report = None
        except PeerError as exc:
            log.warning("report_refused template_pid=%d reason=%s", self.pid, exc)
            return
        if report is not None:
            self._on_report(report)
            return
        assert self._process is not None
        self._close()
        self._on_gone(self._process.wait())

    def _send(self) -> None:
        """Send the orders that wait, as far as the template reads them."""
        if self._control is None or self._is_pausing:
            return
        loop = asyncio.get_running_loop()
        while self._orders:
            first = self._orders[0]
            try:
                send(self._control, first.packet, first.fds)
            except BlockingIOError:
                loop.add_writer(self._control, self._send)
                return
            except OSError as exc:
                if exc.errno in BUSY_ERRORS and self._busy_count < MAX_BUSY_TRIES:
                    self._pause()
                    return
                # If the template is gone, the end of its socket tells that, too.
                if not isinstance(exc, ConnectionError):
                    loop.call_soon(self._on_not_sent, first.order, str(exc))
            self._busy_count = 0
            close_all(first.fds)
            self._orders.popleft()
        loop.remove_writer(self._control)

    def _pause(self) -> None:
        """Try to send again in a moment."""
        assert self._control is not None
        self._busy_count += 1
        self._is_pausing = True
        asyncio.get_running_loop().remove_writer(self._control)
        asyncio.get_running_loop().call_later(BUSY_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._is_pausing = False
        self._send()

    def _on_not_sent(self, order: Order, reason: str) -> None:
        """Report that the kernel took no order, as a template reports an order that it cannot obey."""
        log.error("order_not_sent order=%s reason=%s", type(order).__name__, reason)
        if self._control is not None and isinstance(order, ForkWorker | ForkDriver):
            self._on_report(NotForked(order.name, reason))

    def _close(self) -> None:
        if self._control is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._control)
        loop.remove_writer(self._control)
        self._control.close()
        self._control = None
        while self._orders:
            close_all(self._orders.popleft().fds)
