"""The broker's side of its lane processes: start one, talk to it, see it die.

Knows the control socket; knows neither tasks nor payloads, nor which session is where.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import errno
import logging
import socket
import subprocess
import sys
from collections.abc import Callable

from google.protobuf.message import DecodeError

from quakegrid.errors import PeerError, QuakeGridError
from quakegrid.services.broker.rpc import peer_input
from quakegrid.settings.config import Settings
from quakegrid.transport.lane_sockets import CONTROL_BYTES
from quakegrid.wire.v1 import lane_pb2

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 2.0
# Most bytes that a lane may leave unread. A lane reads at once: one that leaves more does not run any more.
MAX_OUTGOING_BYTES = 64 << 20
# Most reports that are taken before other events of the loop have their turn.
MAX_READS = 64
log = logging.getLogger("quakegrid.broker")


class LaneProcess:
    """A process that becomes a lane when it is told where to listen.

    Args:
        settings: of the cluster.
    """

    port: int
    _on_message: Callable[[lane_pb2.ControlMessage], None]
    _on_death: Callable[[str], None]

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._outgoing: collections.deque[bytes] = collections.deque()
        self._outgoing_bytes = 0
        self._reaper: asyncio.Task[None] | None = None
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._control, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CONTROL_BYTES)
        self._control.setblocking(False)
        arguments = ["--state-dir", str(settings.state_dir), "--control-fd", str(theirs.fileno())]
        command = [sys.executable, "-P", "-m", "quakegrid.services.lane", *arguments]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    @property
    def pid(self) -> int:
        """Process id of the lane."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def listen(
        self,
        port: int,
        *,
        on_message: Callable[[lane_pb2.ControlMessage], None],
        on_death: Callable[[str], None],
    ) -> None:
        """Have it listen; once.

        Args:
            port: TCP port.
            on_message: called with each message of the lane.
            on_death: called once, with the reason, when the process is gone unasked.
        """
        self.port, self._on_message, self._on_death = port, on_message, on_death
        endpoint = f"tcp://{self._settings.broker_listen}:{port}"
        self.send(lane_pb2.ControlMessage(listen=lane_pb2.Listen(endpoint=endpoint)))

    async def wait_until_ready(self) -> None:
        """Wait for the lane to listen.

        Raises:
            QuakeGridError: it cannot, such as when its port is taken.
        """
        loop = asyncio.get_running_loop()
        try:
            packet = await asyncio.wait_for(loop.sock_recv(self._control, CONTROL_BYTES), START_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            raise QuakeGridError(f"the lane on port {self.port} did not start in time") from None
        except ConnectionResetError:
            packet = b""
        message = lane_pb2.ControlMessage.FromString(packet)
        if not packet or message.ready.error:
            reason = message.ready.error or "its process ended at once"
            raise QuakeGridError(
                f"the lane on port {self.port} did not start: {reason}; "
                "see [dbserver] receiver_ports in openquake.cfg"
            )
        loop.add_reader(self._control, self._read)

    def send(self, message: lane_pb2.ControlMessage) -> None:
        """Tell the lane something; a dead lane is reported by `on_death`, not here.

        A lane that has not read for long is killed, which is its death.
        """
        packet = message.SerializeToString()
        if len(packet) > CONTROL_BYTES:  # the lane would receive its beginning only
            log.error("lane_order_too_large pid=%d bytes=%d", self.pid, len(packet))
            return
        self._outgoing.append(packet)
        self._outgoing_bytes += len(packet)
        self._flush()
        if self._outgoing_bytes > MAX_OUTGOING_BYTES:
            log.error("lane_does_not_read pid=%d waiting_bytes=%d", self.pid, self._outgoing_bytes)
            self._drop_outgoing()
            self._process.kill()

    def kill(self) -> None:
        """End the lane at once, and wait for it."""
        self._control.close()
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it is in the kernel's hands, and we have to go
            self._process.wait(STOP_TIMEOUT_S)

    async def stop(self) -> None:
        """Close our end, which ends the lane, and wait for it."""
        loop = asyncio.get_running_loop()
        if self._control.fileno() >= 0:
            loop.remove_reader(self._control)
            loop.remove_writer(self._control)
            self._control.close()
        if self._reaper and self._reaper is not asyncio.current_task():
            self._reaper.cancel()
        await self._wait()

    async def _wait(self) -> int | None:
        """Wait for the process, kill it if it hangs; its exit status, or None if it cannot be killed."""
        loop = asyncio.get_running_loop()
        for _ in range(2):
            try:
                return await loop.run_in_executor(None, self._process.wait, STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        log.error("lane_cannot_be_killed pid=%d", self.pid)
        return None

    def _drop_outgoing(self) -> None:
        self._outgoing.clear()
        self._outgoing_bytes = 0

    def _flush(self) -> None:
        """Send what waits, now or when the lane has read."""
        loop = asyncio.get_running_loop()
        while self._outgoing:
            try:
                self._control.send(self._outgoing[0])
            except BlockingIOError:
                loop.add_writer(self._control, self._flush)
                return
            except OSError as exc:
                if exc.errno != errno.EMSGSIZE:  # the lane is gone, or was stopped
                    self._drop_outgoing()
                    break
                log.error("lane_order_too_large pid=%d bytes=%d", self.pid, len(self._outgoing[0]))  # noqa: TRY400
            self._outgoing_bytes -= len(self._outgoing.popleft())
        if self._control.fileno() >= 0:
            loop.remove_writer(self._control)

    def _read(self) -> None:
        """Take what the lane has told, several reports at a time: it may wait for us."""
        for _ in range(MAX_READS):
            try:
                packet = self._control.recv(CONTROL_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                packet = b""
            if not packet:
                break
            self._take(packet)
        else:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._control)
        self._reaper = loop.create_task(self._reap())

    def _take(self, packet: bytes) -> None:
        """Pass on a report; one that was cut, or that cannot be true, is left out: another follows."""
        try:
            message = lane_pb2.ControlMessage.FromString(packet)
            if message.HasField("counts"):
                peer_input.check_counts(message.counts)
        except (DecodeError, PeerError) as exc:
            log.warning("lane_report_refused pid=%d byte_count=%d reason=%s", self.pid, len(packet), exc)
            return
        self._on_message(message)

    async def _reap(self) -> None:
        """Tell of the death of the process; one that hangs at its end is killed."""
        status = await self._wait()
        self._on_death(f"the lane on port {self.port} died (exit status {status})")
