"""The socket between a driver and its lane, and what ends a wait for it.

Belongs to the one thread that submits and receives. Knows frames and no message.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

from quakegrid.session.wakeup import Wakeup
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys.lane_keys import DoorKeys


class DriverSocket:
    """A socket that is connected once, by `connect`, before it is used.

    Args:
        wakeup: what ends a wait from another thread.
    """

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup, self._wakeup_fd = wakeup, wakeup.fileno()
        self._poller = zmq.Poller()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._dealer: zmq.Socket[bytes] | None = None
        self._is_message_here = False  # the last `wait` has seen one
        # A new connection is there, and its lane's hello is to come; whoever takes the hello clears it.
        self.awaits_hello = False
        # Messages since a probe was answered. Whoever sends a join begins anew.
        self.sent_count = 0

    def connect(self, endpoint: str, keys: DoorKeys, identity: bytes) -> None:
        """Connect to a lane; arguments as of `lane_sockets.connect_dealer`."""
        self._context = zmq.Context()
        self._dealer = lane_sockets.connect_dealer(self._context, endpoint, keys, identity)
        self._poller.register(self._dealer, zmq.POLLIN)
        self._poller.register(self._wakeup_fd, zmq.POLLIN)

    def send(self, message: Sequence[bytes | memoryview]) -> None:
        """Send a header and the frames of its payload without waiting."""
        assert self._dealer is not None
        lane_sockets.send_frames(self._dealer, lane_sockets.cut_message(message))
        self.sent_count += 1

    def receive(self) -> list[zmq.Frame] | None:
        """The next message, if there is one; after a `wait` that saw one without looking again.

        A probe, which a lane sends on each new connection, is answered here.
        """
        assert self._dealer is not None
        is_here, self._is_message_here = self._is_message_here, False
        receive = lane_sockets.receive_announced if is_here else lane_sockets.receive_frames
        received = receive(self._dealer)
        while received is not None and lane_sockets.is_probe(received):
            self.send([lane_sockets.PROBE])
            self.awaits_hello, self.sent_count = True, 0
            received = lane_sockets.receive_frames(self._dealer)
        return received

    def wait(self, end_s: float) -> bool:
        """Wait for a message, for `Wakeup.set` or until an instant; returns whether it was `Wakeup.set`."""
        timeout_ms = None if end_s == math.inf else max(0, int((end_s - time.monotonic()) * 1000) + 1)
        ready = {source for source, _ in self._poller.poll(timeout_ms)}
        self._is_message_here = self._dealer in ready
        if self._wakeup_fd not in ready:
            return False
        self._wakeup.clear()
        return True

    def close(self) -> None:
        """Leave the lane; what is not sent yet is dropped."""
        if self._dealer and self._context:
            self._dealer.close(linger=0)
            self._context.term()
