"""A worker's end of its lane: tasks that came, and outcomes that the lane has not acknowledged yet.

The main thread owns the socket, except while a task runs for long. Then a guard thread (`guard.py`) answers
the lane, so that the lane can take back waiting tasks, and a lane that was started again learns what this
worker has.
Whenever the lane says hello, the worker tells it everything again. It also does so after a while if the lane
does not know the session yet.
"""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from quakegrid.errors import PeerError
from quakegrid.services.agent.worker.guard import Guard
from quakegrid.transport import lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

# A lane that does not know the session may belong to a new broker, which the driver has not reached yet. The
# worker tells it again after so long, for as long as a driver looks for its broker (`Patience.broker_s`).
REFUSED_RETRY_S = 1.0
REFUSED_PATIENCE_S = 60.0
# A lane refuses at once. If it has refused nothing for so long, it has accepted what it was told last.
ACCEPTED_AFTER_S = 10.0

Frames = Sequence[bytes | memoryview]
Frame = zmq.Frame | lane_sockets.JoinedFrame


class RefusedError(PeerError):
    """The lane refuses this worker."""


class BlobGoneError(PeerError):
    """The driver has dropped this blob, and waits for no task that names it."""


@dataclass(frozen=True, slots=True)
class ReceivedTask:
    """A task to run: its lease, where its blobs belong, and its other frames."""

    run: lane_pb2.RunTask
    frames: Sequence[Frame]


@dataclass(frozen=True, slots=True)
class _SentOutcome:
    """An outcome that may have to be sent again."""

    lease: lane_pb2.Lease
    frames: Frames


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
        self._session_id, self._worker_id, self._node = session_id, worker_id, node
        self._waiting: collections.deque[ReceivedTask] = collections.deque()
        self._running: lane_pb2.Lease | None = None
        self._sent: collections.deque[_SentOutcome] = collections.deque()
        # On this connection; before the greeting the lane's counts belong to an earlier connection.
        self._is_greeted = False
        self._acknowledged_count = 0  # of the outcomes that were sent since the last hello
        self._is_stopping = False
        self._awaited_blob_id = b""  # empty when it has come
        self._blob: Frame | None = None
        self._told_count = 0  # how often the lane was told everything
        self._patience = _Patience()
        self._guard = Guard(dealer, self.read_ready, self.timeout_ms)

    def next_task(self) -> ReceivedTask | None:
        """Wait for a task; returns None when this worker is to end.

        Unless the session is over, the lane has all outcomes by then.

        Raises:
            RefusedError: the lane has no place for us.
        """
        if self._waiting:
            self.read_ready()  # the lane may have taken it back
        while not self._waiting:
            if self._is_stopping and not (self._is_drained and self._sent):
                return None
            self._take_next()
        task = self._waiting.popleft()
        self._running = task.run.lease
        return task

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
        message = [lane_pb2.LaneMessage(outcome=outcome).SerializeToString(), *frames]
        self._running = None
        self._sent.append(_SentOutcome(outcome.lease, message))
        self._send(message)

    def fetch_blob(self, blob_id: bytes) -> Frame:
        """Get a blob from the lane.

        Raises:
            BlobGoneError: the driver has dropped the blob, and the tasks that name it.
        """
        get = lane_pb2.GetBlob(session_id=self._session_id, blob_id=blob_id)
        header = lane_pb2.LaneMessage(get_blob=get).SerializeToString()
        asked, self._awaited_blob_id = -1, blob_id
        while self._awaited_blob_id:
            if asked != self._told_count:
                asked = self._told_count
                self._send([header])
            self._take_next()
        content, self._blob = self._blob, None
        if content is None:
            raise BlobGoneError("the driver does not wait for this task any more")
        return content

    def read_ready(self) -> None:
        """Take the messages that have come, and tell the lane again if it is time; for the socket's owner."""
        while (frames := lane_sockets.receive_frames(self._dealer)) is not None:
            self._take(frames)
        if time.monotonic() >= self._patience.retry_s:
            self._tell_everything()

    def timeout_ms(self) -> int | None:
        """How long to wait for messages before the lane is told again; None for ever."""
        retry_s = self._patience.retry_s
        return None if retry_s == math.inf else max(0, int((retry_s - time.monotonic()) * 1000) + 1)

    def _take_next(self) -> None:
        """Wait for a message, and take it; or tell the lane again when it is time."""
        timeout_ms = self.timeout_ms()
        if timeout_ms is None:
            self._take(lane_sockets.wait_for_frames(self._dealer))
            return
        self._dealer.poll(timeout_ms)
        self.read_ready()

    def _take(self, frames: list[zmq.Frame]) -> None:
        if lane_sockets.is_probe(frames):
            self._is_greeted = False
            self._send([lane_sockets.PROBE])
            return
        message = lane_pb2.LaneMessage.FromString(frames[0].bytes)
        match message.WhichOneof("body"):
            case "run_task":
                self._patience.end()
                self._acknowledge(message.run_task.outcome_count)
                self._waiting.append(ReceivedTask(message.run_task, lane_sockets.join(frames[1:])))
            case "take_back":
                self._patience.end()
                self._give_back(message.take_back.lease)
            case "blob":
                self._take_blob(message.blob.blob_id, frames[1:])
            case _:
                self._take_word(message)

    def _take_word(self, message: lane_pb2.LaneMessage) -> None:
        """Take a message about this worker itself: whether the lane has a place for it."""
        match message.WhichOneof("body"):
            case "hello":
                self._greet(message.hello)
            case "stop":
                self._is_stopping, self._is_drained = True, message.stop.is_drain
                if self._is_drained:
                    self._acknowledge(message.stop.outcome_count)
            case "refused":
                self._patience.refuse(message.refused, time.monotonic())
            case other:
                raise PeerError(f"the lane sent {other!r} to a worker")

    def _take_blob(self, blob_id: bytes, frames: list[zmq.Frame]) -> None:
        """Take the blob that `fetch_blob` waits for."""
        if blob_id != self._awaited_blob_id:
            return  # asked for once more when the connection was new
        content = lane_sockets.join(frames)
        self._blob, self._awaited_blob_id = content[0] if content else None, b""

    def _acknowledge(self, count: int) -> None:
        if not self._is_greeted:
            return
        for _ in range(min(count - self._acknowledged_count, len(self._sent))):
            self._sent.popleft()
        self._acknowledged_count = max(count, self._acknowledged_count)

    def _give_back(self, lease: lane_pb2.Lease) -> None:
        task = next((task for task in self._waiting if task.run.lease == lease), None)
        if task is not None:
            self._waiting.remove(task)
            returned = lane_pb2.TaskReturned(lease=lease, worker_id=self._worker_id)
            self._send([lane_pb2.LaneMessage(task_returned=returned).SerializeToString()])

    def _greet(self, hello: lane_pb2.Hello) -> None:
        if hello.protocol_version != lane_sockets.PROTOCOL_VERSION:
            raise RefusedError(
                f"the lane speaks version {hello.protocol_version} of the lanes, {self._node} version "
                f"{lane_sockets.PROTOCOL_VERSION}; install the same QuakeGrid on all machines"
            )
        self._is_greeted = True
        self._tell_everything()

    def _tell_everything(self) -> None:
        self._told_count += 1
        self._acknowledged_count = 0
        self._patience.retry_s = math.inf
        held = [*(task.run.lease for task in self._waiting), *(sent.lease for sent in self._sent)]
        ready = lane_pb2.WorkerReady(
            protocol_version=lane_sockets.PROTOCOL_VERSION,
            session_id=self._session_id,
            worker_id=self._worker_id,
            node=self._node,
            held=[*([self._running] if self._running else []), *held],
        )
        self._send([lane_pb2.LaneMessage(worker_ready=ready).SerializeToString()])
        for sent in self._sent:
            self._send(sent.frames)

    def _send(self, frames: Frames) -> None:
        lane_sockets.send_frames(self._dealer, lane_sockets.cut_message(frames))


@dataclass(slots=True)
class _Patience:
    """When a lane that does not know the session is told again, and when the worker gives up."""

    retry_s: float = math.inf
    _first_s: float = math.inf
    _last_s: float = -math.inf

    def refuse(self, refused: lane_pb2.Refused, now_s: float) -> None:
        """Take a refusal of the lane.

        Raises:
            RefusedError: the lane knows the session, or has not known it for too long.
        """
        if now_s - self._last_s >= ACCEPTED_AFTER_S:
            self._first_s = now_s
        self._first_s, self._last_s = min(self._first_s, now_s), now_s
        self.retry_s = min(self.retry_s, now_s + REFUSED_RETRY_S)
        if not refused.is_unknown_session or now_s >= self._first_s + REFUSED_PATIENCE_S:
            raise RefusedError(refused.reason)

    def end(self) -> None:
        """Note that the lane knows this worker. A blob does not show that: every worker may ask for one."""
        self.retry_s = self._first_s = math.inf
