"""The port of a lane, which is closed for a while when the process may open no more files.

ZeroMQ accepts connections in its I/O threads. A connection that it cannot accept stays in the kernel's queue,
so the thread tries again at once, and for ever: it takes a whole core, and the peers that are connected
already wait behind it. Peers that find the port closed try again by themselves, several times a second.
"""

from __future__ import annotations

import errno
import logging
import math
import struct

from quakegrid.machine import service_logs
from quakegrid.transport.fast_zmq import zmq

PAUSE_S = 1.0
# Tidings that are read in one turn of the loop; an I/O thread that cannot accept sends many at a time.
TIDINGS_AT_ONCE = 1000
_NO_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_TIDINGS = "inproc://quakegrid.entrance"
_EVENT = struct.Struct("=HI")  # zmq_socket_monitor(3)
log = logging.getLogger("quakegrid.lane")


class Entrance:
    """Closes and opens the port of a ROUTER.

    Args:
        context: of the ROUTER.
        router: bound to one port.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], router: zmq.Socket[bytes]) -> None:
        self._router = router
        self._endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
        router.monitor(_TIDINGS, zmq.EVENT_ACCEPT_FAILED)
        self.tidings = context.socket(zmq.PAIR)  # readable when a connection could not be accepted
        self.tidings.linger = 0
        self.tidings.setsockopt(zmq.RCVHWM, 0)  # else the I/O thread would wait for us
        self.tidings.connect(_TIDINGS)
        self.open_at_s = math.inf  # when to open the port again; infinity while it is open
        self.closed_count = 0

    def take_tidings(self, now_s: float) -> None:
        """Close the port if a connection could not be accepted for want of files."""
        for _ in range(TIDINGS_AT_ONCE):
            try:
                event, _endpoint = self.tidings.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            _kind, error = _EVENT.unpack(event)
            if error in _NO_FILES and self.open_at_s == math.inf:
                self._close(now_s)

    def open_due(self, now_s: float) -> None:
        """Open the port again if it is time."""
        if now_s < self.open_at_s:
            return
        try:
            self._router.bind(self._endpoint)
        except zmq.ZMQError as exc:  # no file for the port itself, or the old one is not closed yet
            log.warning("port_not_opened reason=%s", exc)
            self.open_at_s = now_s + PAUSE_S
        else:
            self.open_at_s = math.inf

    def _close(self, now_s: float) -> None:
        self._router.unbind(self._endpoint)
        self.open_at_s = now_s + PAUSE_S
        self.closed_count += 1
        if service_logs.is_logged(self.closed_count):
            log.warning(
                "port_closed count=%d pause_s=%g reason=no free file for one more connection; raise "
                "LimitNOFILE in the broker's systemd unit, or the hard limit of nofile, and restart",
                self.closed_count,
                PAUSE_S,
            )
