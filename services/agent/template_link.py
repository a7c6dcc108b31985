"""The agent's link to its template: the process, orders to it, reports from it.

Knows the process, the socket pair and that an order may have to wait; refuses to know what the orders
mean. Runs in the agent's event loop.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from quakegrid.config import AGENT_MARK
from services.agent.packets import receive_packet, send_packet


class TemplateLink:
    """One template process.

    Args:
        state_dir: of the cluster; the template loads its settings from there.
        bare_reason: why it shall preload nothing; empty if it shall preload.
        on_report: called with each report.
        on_gone: called with the exit status when the template is dead, and its children with it.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        bare_reason: str = "",
        on_report: Callable[[dict[str, Any]], None],
        on_gone: Callable[[int], None],
    ) -> None:
        self._state_dir, self._bare_reason = state_dir, bare_reason
        self._on_report, self._on_gone = on_report, on_gone
        self._orders: collections.deque[tuple[dict[str, Any], list[int]]] = collections.deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    @property
    def pid(self) -> int:
        """Its process id, 0 before it was started."""
        return self._process.pid if self._process else 0

    def start(self) -> None:
        """Start a template, and send it what waits."""
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        command = [sys.executable, "-P", "-m", "services.agent.template", str(self._state_dir)]
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), self._bare_reason],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, AGENT_MARK: str(self._state_dir)},
            )
        asyncio.get_running_loop().add_reader(self._control, self._read)
        self._send()

    def stop(self, timeout_s: float) -> None:
        """Let the template end what is left of its children, for so long; then kill it."""
        self.order({"order": "end"})  # so that it knows that we live on
        self._close()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_s)
            self._process.kill()
            self._process.wait()

    def kill(self) -> None:
        """Kill the template; its end is reported."""
        if self._process is not None:
            self._process.kill()

    def order(self, packet: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Queue an order, with copies of descriptors; it waits for a template that is being started."""
        self._orders.append((packet, [os.dup(fd) for fd in fds]))
        self._send()

    def _read(self) -> None:
        assert self._control is not None
        try:
            packet, _fds = receive_packet(self._control)
        except ConnectionResetError:
            packet = {}
        if packet:
            self._on_report(packet)
            return
        assert self._process is not None
        self._close()
        self._on_gone(self._process.wait())

    def _send(self) -> None:
        """Send what waits, as far as the template reads."""
        if self._control is None:
            return
        loop = asyncio.get_running_loop()
        while self._orders:
            packet, fds = self._orders[0]
            try:
                send_packet(self._control, packet, fds)
            except BlockingIOError:
                loop.add_writer(self._control, self._send)
                return
            except OSError:  # the template is gone, which its closed end tells too
                pass
            for fd in fds:
                os.close(fd)
            self._orders.popleft()
        loop.remove_writer(self._control)

    def _close(self) -> None:
        if self._control is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._control)
        loop.remove_writer(self._control)
        self._control.close()
        self._control = None
        while self._orders:
            for fd in self._orders.popleft()[1]:
                os.close(fd)
