"""What a worker holds of its lane, and what it tells the lane of that.

Takes the messages of the lane, and the time from its caller. Sends through a function, and knows no socket or
thread. Whenever the lane says hello, the worker tells it everything again. It also does so after a while
if the lane does not know the session yet.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from quakegrid.errors import PeerError
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


class WorkerIdentity(NamedTuple):
    """Who a worker is: its session, its name, and the node where it is."""

    session_id: int
    worker_id: str
    node: str


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


class Holdings:
    """The tasks of one worker, and the outcomes that its lane has not acknowledged yet.

    Args:
        who: the worker.
        send: sends the frames of a message.
    """

    def __init__(self, who: WorkerIdentity, send: Callable[[Frames], None]) -> None:
        self._who, self._send = who, send
        self.waiting: collections.deque[ReceivedTask] = collections.deque()  # read only
        self._running: lane_pb2.Lease | None = None
        self._sent: collections.deque[_SentOutcome] = collections.deque()
        # On this connection; before the greeting the lane's counts belong to an earlier connection.
        self._is_greeted = False
        self._hello_number = 0  # of the last hello
        self._acknowledged_count = 0  # of the outcomes that were sent since the last hello
        self._is_stopping = False
        self._is_drained = False
        self.awaited_blob_id = b""  # empty when it has come; read only
        self._blob: Frame | None = None
        self._patience = _Patience()

    @property
    def is_over(self) -> bool:
        """Whether the worker is to end. Unless the session is over, the lane has all outcomes by then."""
        return self._is_stopping and not (self._is_drained and self._sent)

    @property
    def retry_s(self) -> float:
        """When `tell_due` has something to do; infinity if never."""
        return self._patience.retry_s

    def begin(self) -> ReceivedTask:
        """Begin the next of the tasks that wait; there must be one."""
        task = self.waiting.popleft()
        self._running = task.run.lease
        return task

    def send_outcome(self, outcome: lane_pb2.Outcome, frames: Frames) -> None:
        """Send the outcome of the running task, and keep it until the lane has acknowledged it."""
        message = [lane_pb2.LaneMessage(outcome=outcome).SerializeToString(), *frames]
        self._running = None
        self._sent.append(_SentOutcome(outcome.lease, message))
        self._send(message)

    def ask_blob(self, blob_id: bytes) -> None:
        """Ask the lane for a blob, and again on each new connection, until `awaited_blob_id` is empty."""
        self.awaited_blob_id = blob_id
        get = lane_pb2.GetBlob(session_id=self._who.session_id, blob_id=blob_id)
        self._send([lane_pb2.LaneMessage(get_blob=get).SerializeToString()])

    def take_blob(self) -> Frame | None:
        """The blob that has come; None if the driver has dropped it."""
        content, self._blob = self._blob, None
        return content

    def tell_due(self, now_s: float) -> None:
        """Tell the lane again if it is time."""
        if now_s >= self._patience.retry_s:
            self._tell_everything()

    def take(self, frames: Sequence[zmq.Frame], now_s: float) -> None:
        """Take a message of the lane.

        Raises:
            RefusedError: the lane has no place for us.
        """
        if lane_sockets.is_probe(frames):
            self._is_greeted = False
            self._send([lane_sockets.PROBE])
            return
        message = lane_pb2.LaneMessage.FromString(frames[0].bytes)
        match message.WhichOneof("body"):
            case "run_task":
                self._patience.end()
                self._acknowledge(message.run_task.outcome_count)
                self.waiting.append(ReceivedTask(message.run_task, lane_sockets.join(frames[1:])))
            case "take_back":
                self._patience.end()
                self._give_back(message.take_back.lease)
            case "blob":
                self._on_blob(message.blob.blob_id, frames[1:])
            case _:
                self._take_word(message, now_s)

    def _take_word(self, message: lane_pb2.LaneMessage, now_s: float) -> None:
        """Take a message about this worker itself: whether the lane has a place for it."""
        match message.WhichOneof("body"):
            case "hello":
                self._greet(message.hello)
            case "stop":
                self._is_stopping, self._is_drained = True, message.stop.is_drain
                if self._is_drained:
                    self._acknowledge(message.stop.outcome_count)
            case "refused":
                self._patience.refuse(message.refused, now_s)
            case other:
                raise PeerError(f"the lane sent {other!r} to a worker")

    def _on_blob(self, blob_id: bytes, frames: Sequence[zmq.Frame]) -> None:
        """Take the blob that was asked for."""
        if blob_id != self.awaited_blob_id:
            return  # asked for once more when the connection was new
        content = lane_sockets.join(frames)
        self._blob, self.awaited_blob_id = content[0] if content else None, b""

    def _acknowledge(self, count: int) -> None:
        if not self._is_greeted:
            return
        for _ in range(min(count - self._acknowledged_count, len(self._sent))):
            self._sent.popleft()
        self._acknowledged_count = max(count, self._acknowledged_count)

    def _give_back(self, lease: lane_pb2.Lease) -> None:
        task = next((task for task in self.waiting if task.run.lease == lease), None)
        if task is not None:
            self.waiting.remove(task)
            returned = lane_pb2.TaskReturned(lease=lease, worker_id=self._who.worker_id)
            self._send([lane_pb2.LaneMessage(task_returned=returned).SerializeToString()])

    def _greet(self, hello: lane_pb2.Hello) -> None:
        if hello.protocol_version != lane_sockets.PROTOCOL_VERSION:
            raise RefusedError(
                f"the lane speaks version {hello.protocol_version} of the lanes, {self._who.node} version "
                f"{lane_sockets.PROTOCOL_VERSION}; install the same QuakeGrid on all machines"
            )
        self._is_greeted, self._hello_number = True, hello.number
        self._tell_everything()

    def _tell_everything(self) -> None:
        self._acknowledged_count = 0
        self._patience.retry_s = math.inf
        held = [*(task.run.lease for task in self.waiting), *(sent.lease for sent in self._sent)]
        ready = lane_pb2.WorkerReady(
            protocol_version=lane_sockets.PROTOCOL_VERSION,
            session_id=self._who.session_id,
            worker_id=self._who.worker_id,
            node=self._who.node,
            held=[*([self._running] if self._running else []), *held],
            hello_number=self._hello_number,
        )
        self._send([lane_pb2.LaneMessage(worker_ready=ready).SerializeToString()])
        for sent in self._sent:
            self._send(sent.frames)
        if self.awaited_blob_id:
            self.ask_blob(self.awaited_blob_id)


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
