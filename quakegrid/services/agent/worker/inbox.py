"""A worker's end of its lane: the socket around what the worker holds, which is in `holdings.py`.

The main thread owns the socket, except while a task runs for long. Then a guard thread (`guard.py`) answers
the lane, so that the lane can take back waiting tasks, and a lane that was started again learns what this
worker has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from quakegrid.errors import PeerError
from quakegrid.services.agent.worker.guard import Guard
from quakegrid.services.agent.worker.holdings import Frame, Frames, Holdings, ReceivedTask, WorkerIdentity
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2


class BlobGoneError(PeerError):
    """The driver has dropped this blob, and waits for no task that names it."""


class Inbox:
    """The tasks of one worker, its outcomes, and what the lane is told of them.

    Args:
        dealer: connected to the lane.
        session_id: of the worker.
        worker_id: its name.
        node: where it is.
    """

    def __init__(self, dealer: zmq.Socket[bytes], session_id: int, worker_id: str, node: str) -> None:
        self._dealer = dealer
        self._held = Holdings(WorkerIdentity(session_id, worker_id, node), self._send)
        self._guard = Guard(dealer, self.read_ready, self.timeout_ms)

    def next_task(self) -> ReceivedTask | None:
        """Wait for a task; returns None when this worker is to end.

        Unless the session is over, the lane has all outcomes by then.

        Raises:
            RefusedError: the lane has no place for us.
        """
        held = self._held
        if held.waiting:
            self.read_ready()  # the lane may have taken it back
        while not held.waiting:
            if held.is_over:
                return None
            self._take_next()
        return held.begin()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Let the guard answer the lane if this block takes long."""
        self._guard.release()
        try:
            yield
        finally:
            self._guard.take_over()

    def send_outcome(self, outcome: lane_pb2.Outcome, frames: Frames) -> None:
        """Send the outcome of the running task, and keep it until the lane has acknowledged it."""
        self._held.send_outcome(outcome, frames)

    def fetch_blob(self, blob_id: bytes) -> Frame:
        """Get a blob from the lane.

        Raises:
            BlobGoneError: the driver has dropped the blob, and the tasks that name it.
        """
        self._held.ask_blob(blob_id)
        while self._held.awaited_blob_id:
            self._take_next()
        content = self._held.take_blob()
        if content is None:
            raise BlobGoneError("the driver does not wait for this task any more")
        return content

    def read_ready(self) -> None:
        """Take the messages that have come, and tell the lane again if it is time; for the socket's owner."""
        while (frames := lane_sockets.receive_frames(self._dealer)) is not None:
            self._held.take(frames, time.monotonic())
        self._held.tell_due(time.monotonic())

    def timeout_ms(self) -> int | None:
        """How long to wait for messages before the lane is told again; None for ever."""
        retry_s = self._held.retry_s
        return None if retry_s == math.inf else max(0, int((retry_s - time.monotonic()) * 1000) + 1)

    def _take_next(self) -> None:
        """Wait for a message, and take it; or tell the lane again when it is time."""
        timeout_ms = self.timeout_ms()
        if timeout_ms is None:
            self._held.take(lane_sockets.wait_for_frames(self._dealer), time.monotonic())
            return
        self._dealer.poll(timeout_ms)
        self.read_ready()

    def _send(self, frames: Frames) -> None:
        lane_sockets.send_frames(self._dealer, lane_sockets.cut_message(frames))
