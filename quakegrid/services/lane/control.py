"""The lane's end of its control socket: what the broker is told, without waiting for it to read.

Knows packets; decides nothing. While the broker does not read, the newest packet of each kind is kept, so a
broker that is busy or stopped costs a lane neither time nor unbounded memory.
"""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Hashable

log = logging.getLogger("quakegrid.lane")
# How soon to try again when the broker did not read.
RETRY_S = 0.2


class ControlLink:
    """Packets to the broker.

    Args:
        control: our end of the socket.
    """

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._waiting: dict[Hashable, bytes] = {}

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for the broker to read; call `flush` after `RETRY_S`."""
        return bool(self._waiting)

    def tell(self, kind: Hashable, packet: bytes) -> None:
        """Send a packet, as soon as the broker reads; in place of an older one of its kind that waits."""
        self._waiting[kind] = packet
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the broker reads."""
        while self._waiting:
            kind = next(iter(self._waiting))
            try:
                self._control.send(self._waiting[kind], socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):  # the end of its messages tells
                self._waiting.clear()
                return
            except OSError as exc:
                if exc.errno != errno.EMSGSIZE:
                    raise
                log.error("packet_too_large kind=%s bytes=%d", kind, len(self._waiting[kind]))  # noqa: TRY400
            del self._waiting[kind]
