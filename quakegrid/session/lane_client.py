"""A driver's end of its lane: tasks go out, outcomes come back.

Belongs to the one thread that submits and receives. Every task is kept until its outcome is here. The
lane is told of it again whenever it says hello. Payloads and outcomes are frames.
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
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.session import worker_output as worker_words
from quakegrid.session.driver_socket import DriverSocket
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask, failed_outcome
from quakegrid.session.options import Patience
from quakegrid.session.retelling import Retelling
from quakegrid.session.stream import BrokerStream
from quakegrid.settings.config import Settings
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

# Ids in one message; no header is a mebibyte or more.
CANCELLED_AT_ONCE = 50_000
OPERATION_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class SubmittedTask:
    """A task without its outcome: the message that submits it, and the blobs that it names."""

    message: Sequence[bytes | memoryview]
    refs: Sequence[lane_pb2.BlobRef]


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
        self._pending: dict[int, SubmittedTask] = {}
        self._retelling = Retelling(patience.refused_retry_s, patience.broker_s)
        self._admission_count = 1  # of the session, when the lane was last told everything
        self._taken_bytes = 0  # of outcomes, since the lane was last told
        self.has_joined = False  # the lane has confirmed it, at least once
        self.blobs = BlobTable()

    def join(self, admitted: sessions_pb2.SessionAdmitted) -> None:
        """Connect to the lane and wait until it confirms that we have joined.

        Raises:
            PeerUnreachableError: it does not answer.
        """
        endpoint = admitted.lane_endpoint
        identity = lane_names.driver_name(admitted.session_id, admitted.session_token)
        self._lane.connect(endpoint, self._settings.authkey, identity)
        end_s, is_woken = time.monotonic() + self._patience.hello_s, False
        while not self.has_joined:
            self._stream.check()
            is_woken |= self._lane.wait(min(end_s, self._retelling.due_s))
            if time.monotonic() >= end_s:
                raise errors.PeerUnreachableError(
                    f"the lane at {endpoint} does not answer; does a firewall let through "
                    "the ports that [dbserver] receiver_ports in openquake.cfg names?"
                )
            self.receive_ready()
        if is_woken:
            self._stream.wakeup.set()  # for the first `wait`

    def submit(
        self, frames: Sequence[bytes | memoryview], task: LaneTask, digests: Digests | None = None
    ) -> int:
        """Send a task to the lane; see `Session.submit`."""
        self._stream.check()
        task_id = self._next_task_id
        self._next_task_id += 1
        split = self.blobs.split(frames, {} if digests is None else digests)
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
        pending = self._pending[task_id] = SubmittedTask([header, *split.frames], split.refs)
        for blob_id, content in split.to_put:
            self._put_blob(blob_id, content)
        self._lane.send(pending.message)
        return task_id

    def cancel(self, task_ids: Sequence[int]) -> None:
        """Give up the outcomes of tasks. The lane drops the tasks that wait."""
        for task_id in task_ids:
            self._forget(task_id)
        for start in range(0, len(task_ids), CANCELLED_AT_ONCE):
            some = task_ids[start : start + CANCELLED_AT_ONCE]
            cancelled = lane_pb2.CancelTasks(session_id=self._stream.session_id, task_ids=some)
            self._lane.send([lane_pb2.LaneMessage(cancel_tasks=cancelled).SerializeToString()])

    def receive_ready(self) -> LaneOutcome | None:
        """The next outcome if it is here already; raises what the session failed with."""
        self._stream.check()
        if self._stream.admission_count != self._admission_count or self._retelling.due_s < math.inf:
            self._tell_again()
        while (received := self._lane.receive()) is not None:
            outcome = self._take(received)
            if outcome is not None and self._forget(outcome.task_id):
                return outcome
        return None

    def wait(self) -> None:
        """Wait for a message, the session's failure, `Wakeup.set`, or the time to tell the lane again."""
        self._lane.wait(self._retelling.due_s)

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
                self._retelling.end()
            case "refused":
                refused = message.refused
                self._retelling.refuse(
                    refused.reason, time.monotonic(), is_unknown_session=refused.is_unknown_session
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
        state_dir = self._settings.state_dir
        if hello.blob_folder_id == shared_memory.folder_id(state_dir):
            folder = shared_memory.folder(state_dir) / str(self._stream.session_id)
            self.blobs.store = self.blobs.store or LocalBlobs(folder, self._settings.lane_memory_bytes)
        self._tell_lane()

    def _tell_again(self) -> None:
        """Tell the lane everything once more if it is time: it may have refused what came before."""
        admission_count = self._stream.admission_count
        if admission_count != self._admission_count or time.monotonic() >= self._retelling.due_s:
            self._admission_count = admission_count
            self._retelling.begin()
            self._tell_lane()

    def _tell_lane(self) -> None:
        for blob_id, content in self.blobs.start_again():
            self._put_blob(blob_id, content)
        for pending in self._pending.values():
            self._lane.send(pending.message)
        self._taken_bytes = 0
        join = lane_pb2.Join(
            protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=self._stream.session_id
        )
        self._lane.send([lane_pb2.LaneMessage(join=join).SerializeToString()])

    def _forget(self, task_id: int) -> bool:
        """Forget a task; returns whether its outcome was still awaited."""
        pending = self._pending.pop(task_id, None)
        if pending is None:
            return False
        self.blobs.done(pending.refs)
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
