"""A driver's end of its lane: tasks go out, outcomes come back.

Belongs to the one thread that submits and receives. Every task is kept until its outcome is here.
`task_window.py` says when it is sent. The lane is told again of all that was sent whenever it says hello.
Payloads and outcomes are frames.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from quakegrid import errors
from quakegrid.blobs import shared_memory
from quakegrid.blobs.local_store import LocalBlobs
from quakegrid.blobs.table import BlobTable, Digests
from quakegrid.files.lane_doors import LaneDoor
from quakegrid.session import worker_output as worker_words
from quakegrid.session.driver_socket import DriverSocket
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask, failed_outcome
from quakegrid.session.options import Patience
from quakegrid.session.retelling import Retelling
from quakegrid.session.stream import BrokerStream
from quakegrid.session.task_window import TaskWindow
from quakegrid.settings.config import Settings
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

# Ids in one message; no header is a mebibyte or more.
CANCELLED_AT_ONCE = 50_000
OPERATION_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class SubmittedTask:
    """A task on the lane: the message that submits it, and the blobs that it names."""

    message: Sequence[bytes | memoryview]
    refs: Sequence[lane_pb2.BlobRef]


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task that is not on the lane yet: its payload is looked through for blobs when it is sent."""

    frames: Sequence[bytes | memoryview]
    task: LaneTask
    digests: Digests


class LaneClient:
    """The tasks of one session on its lane.

    Args:
        settings: of the cluster.
        stream: from the broker, which says when the session has failed.
        lane: the socket to it, connected by `join`.
        patience: how long to wait.
    """

    def __init__(
        self, settings: Settings, stream: BrokerStream, lane: DriverSocket, patience: Patience
    ) -> None:
        self._settings, self._stream, self._lane, self._patience = settings, stream, lane, patience
        self._next_task_id = 1
        self._sent: dict[int, SubmittedTask] = {}
        self._waiting: dict[int, WaitingTask] = {}
        self.window = TaskWindow()
        self._retelling = Retelling(patience.refused_retry_s, patience.broker_s)
        self._hello_number = 0  # of the lane's last hello; 0 if the lane does not number them
        self._taken_bytes = 0  # of outcomes, since the lane was last told
        self.has_joined = False  # the lane has confirmed it, at least once
        self.blobs = BlobTable()

    def join(self, door: LaneDoor, core_count: int) -> None:
        """Connect to the lane and wait until it confirms that we have joined.

        Raises:
            PeerUnreachableError: it does not answer.
        """
        self.window.expect_workers(core_count)
        self._lane.connect(door.endpoint, door.keys, lane_names.driver_name(door.session_id, door.token))
        end_s, is_woken = time.monotonic() + self._patience.hello_s, False
        while not self.has_joined:
            self._stream.check()
            is_woken |= self._lane.wait(min(end_s, self._due_s))
            if time.monotonic() >= end_s:
                raise errors.PeerUnreachableError(
                    f"the lane at {door.endpoint} does not answer; does a firewall let through "
                    "the ports that [dbserver] receiver_ports in openquake.cfg names?"
                )
            self.receive_ready()
        if is_woken:
            self._stream.wakeup.set()  # for the first `wait`

    def submit(
        self, frames: Sequence[bytes | memoryview], task: LaneTask, digests: Digests | None = None
    ) -> int:
        """Take in a task, and send it if the lane shall have more; see `Session.submit`."""
        self._stream.check()
        task_id = self._next_task_id
        self._next_task_id += 1
        if self.window.is_open:  # then no other task waits
            self._submit(task_id, WaitingTask(frames, task, {} if digests is None else digests))
        else:  # both are the caller's, and hashes hold while we have the frames
            self._waiting[task_id] = WaitingTask(tuple(frames), task, dict(digests or {}))
            self.window.wait(task_id, task.weight or 1.0)  # as the lane takes it
        return task_id

    def cancel(self, task_ids: Sequence[int]) -> None:
        """Give up the outcomes of tasks. The lane drops the tasks that wait."""
        sent = [task_id for task_id in task_ids if task_id not in self._waiting]
        for task_id in task_ids:
            self._forget(task_id)
        for start in range(0, len(sent), CANCELLED_AT_ONCE):
            some = sent[start : start + CANCELLED_AT_ONCE]
            cancelled = lane_pb2.CancelTasks(session_id=self._stream.session_id, task_ids=some)
            self._lane.send([lane_pb2.LaneMessage(cancel_tasks=cancelled).SerializeToString()])
        self._submit_waiting()

    def receive_ready(self) -> LaneOutcome | None:
        """The next outcome if it is here already; raises what the session failed with."""
        self._stream.check()
        if self._due_s < math.inf and self._retelling.is_due(time.monotonic(), self._stream.admission_count):
            self._tell_lane()
        while (received := self._lane.receive()) is not None:
            outcome = self._take(received)
            if outcome is not None and self._forget(outcome.task_id):
                self.window.see_worker(outcome.worker_id)
                self._submit_waiting()
                return outcome
        return None

    def wait(self, end_s: float = math.inf) -> None:
        """Wait for a message, the session's failure, `Wakeup.set`, when to tell the lane again or `end_s`."""
        self._lane.wait(min(end_s, self._due_s))

    @property
    def _due_s(self) -> float:
        """When to tell the lane again; not before its hello, where that is to come."""
        return math.inf if self._lane.awaits_hello else self._retelling.due_s

    # --- what the lane is told

    def _submit(self, task_id: int, waiting: WaitingTask) -> None:
        task, split = waiting.task, self.blobs.split(waiting.frames, waiting.digests)
        submission = lane_pb2.SubmitTask(
            session_id=self._stream.session_id,
            task_id=task_id,
            weight=task.weight,
            operation=task.operation[:OPERATION_CHARACTERS],
            expected_s=task.expected_s,
            max_attempts=task.max_attempts,
            blobs=split.refs,
        )
        header = lane_pb2.LaneMessage(submit_task=submission).SerializeToString()
        submitted = self._sent[task_id] = SubmittedTask([header, *split.frames], split.refs)
        self.window.send(task_id, sum(map(lane_sockets.content_bytes, split.frames)))
        for blob_id, content in split.to_put:
            self._put_blob(blob_id, content)
        self._lane.send(submitted.message)

    def _submit_waiting(self) -> None:
        """Send what waited, as far as there is room on the lane."""
        while self._waiting and (task_id := self.window.next()) is not None:
            self._submit(task_id, self._waiting.pop(task_id))

    # --- what the lane says

    def _take(self, received: list[zmq.Frame]) -> LaneOutcome | None:
        """Take one message; gives the outcome in it, if there is one."""
        header, *frames = received
        message = lane_pb2.LaneMessage.FromString(header.bytes)
        match message.WhichOneof("body"):
            case "outcome":
                self._acknowledge(frames)
                outcome = message.outcome
                lease, whole = outcome.lease, lane_sockets.join(frames)
                return LaneOutcome(lease.task_id, whole, outcome.error, outcome.duration_s, outcome.worker_id)
            case "task_failed":
                return failed_outcome(message.task_failed)
            case "hello":
                self._greet(message.hello)
            case "get_blob":
                self._put_blob(message.get_blob.blob_id, self.blobs.content(message.get_blob.blob_id))
            case "worker_died":
                self._stream.words.pass_on(worker_words.from_death(message.worker_died))
            case "joined":
                self.has_joined = True
                self._retelling.end(self._stream.admission_count)
            case "refused":
                refused = message.refused
                self._retelling.refuse(
                    refused.reason,
                    time.monotonic(),
                    is_unknown_session=refused.is_unknown_session,
                    is_join=refused.is_join,
                )
            case other:
                raise errors.PeerError(f"the lane sent {other!r} to a driver")
        return None

    def _greet(self, hello: lane_pb2.Hello) -> None:
        """Tell the lane all tasks without an outcome, then join. The lane ignores those that it knows."""
        if hello.protocol_version != lane_sockets.PROTOCOL_VERSION:
            raise errors.PeerError(
                f"the lane speaks version {hello.protocol_version} of the lanes, this driver version "
                f"{lane_sockets.PROTOCOL_VERSION}; install the same QuakeGrid on all machines"
            )
        self._lane.awaits_hello, self._hello_number = False, hello.number
        state_dir = self._settings.state_dir
        if hello.blob_folder_id == shared_memory.folder_id(state_dir):
            folder = shared_memory.folder(state_dir) / str(self._stream.session_id)
            self.blobs.store = self.blobs.store or LocalBlobs(folder, self._settings.lane_memory_bytes)
        self._tell_lane()

    def _tell_lane(self) -> None:
        self._retelling.begin(self._stream.admission_count, awaits_answer=self._hello_number > 0)
        for blob_id, content in self.blobs.start_again():
            self._put_blob(blob_id, content)
        for submitted in self._sent.values():
            self._lane.send(submitted.message)
        self._taken_bytes = 0
        self._lane.send([_join(self._stream.session_id, self._hello_number, self._lane.sent_count + 1)])
        self._lane.sent_count = 0

    def _forget(self, task_id: int) -> bool:
        """Forget a task; returns whether its outcome was still awaited."""
        submitted = self._sent.pop(task_id, None)
        if submitted is None and self._waiting.pop(task_id, None) is None:
            return False
        self.window.end(task_id)
        if submitted is not None:
            self.blobs.done(submitted.refs)
        return True

    def _acknowledge(self, frames: Sequence[zmq.Frame]) -> None:
        self._taken_bytes += lane_sockets.message_bytes(frames)
        if self._taken_bytes >= lane_sockets.RECEIPT_BYTES:
            received = lane_pb2.Received(session_id=self._stream.session_id, byte_count=self._taken_bytes)
            self._taken_bytes = 0
            self._lane.send([lane_pb2.LaneMessage(received=received).SerializeToString()])

    def _put_blob(self, blob_id: bytes, content: bytes | memoryview | None) -> None:
        """Send the content of a blob to the lane; None if its tasks are not awaited any more."""
        put = lane_pb2.PutBlob(session_id=self._stream.session_id, blob_id=blob_id)
        header = lane_pb2.LaneMessage(put_blob=put).SerializeToString()
        self._lane.send([header] if content is None else [header, content])


def _join(session_id: int, hello_number: int, message_count: int) -> bytes:
    """The header that ends what the lane is told."""
    join = lane_pb2.Join(
        protocol_version=lane_sockets.PROTOCOL_VERSION,
        session_id=session_id,
        hello_number=hello_number,
        message_count=message_count,
    )
    return lane_pb2.LaneMessage(join=join).SerializeToString()
