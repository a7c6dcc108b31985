"""A driver's session with the broker, and its lane.

The session stream tells when the driver may start and when it must stop; a thread reads it. The lane
socket belongs to the one thread that submits and receives. Payloads and outcomes are frames.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
import zmq

from quakegrid import errors, lane, rpc
from quakegrid.api.v1 import broker_pb2, broker_pb2_grpc
from quakegrid.config import Settings
from quakegrid.wire.v1 import lane_pb2


@dataclass(frozen=True, slots=True)
class LaneOutcome:
    """What came back for a task: the outcome's frames, or why there is none.

    `reasons` has a line for each worker that the task ended, when it is not tried again.
    """

    task_id: int
    frames: Sequence[zmq.Frame]
    error: str
    duration_s: float = 0.0
    worker_id: str = ""
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaneTask:
    """What the lane should know of a task; see `SubmitTask` of the protocol."""

    operation: str
    weight: float = 1.0
    is_short: bool = False
    max_attempts: int = 0


class Session:
    """An open session; a context manager.

    Args:
        settings: of the cluster.
        job_ids: jobs that this driver runs; empty for work without a job.
        user_name: whose they are.
        worker_setup: pickled callable for each worker.
        is_local: no workers are wanted.
        max_workers: at most, 0 for no limit.
    """

    def __init__(
        self,
        settings: Settings,
        job_ids: Sequence[int],
        *,
        user_name: str,
        worker_setup: bytes,
        is_local: bool = False,
        max_workers: int = 0,
    ) -> None:
        self._settings = settings
        self._channel = rpc.open_channel(settings.broker_address, settings.authkey)
        request = broker_pb2.OpenSessionRequest(
            job_ids=job_ids,
            user_name=user_name,
            host=socket.gethostname(),
            pid=os.getpid(),
            worker_setup=worker_setup,
            is_local=is_local,
            max_workers=max_workers,
        )
        self._stream = broker_pb2_grpc.BrokerStub(self._channel).OpenSession(request)
        self._answers: queue.SimpleQueue[broker_pb2.OpenSessionResponse | errors.QuakeGridError] = (
            queue.SimpleQueue()
        )
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._wakeup).atexit = False  # any thread may still wake us
        self._failure: errors.QuakeGridError | None = None
        self._closed = threading.Event()
        self._dealer: zmq.Socket[bytes] | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._poller = zmq.Poller()
        self._next_task_id = 1
        self.session_id = 0
        self.core_count = 0
        threading.Thread(target=self._read_stream, name="session", daemon=True).start()

    def wait_for_turn(self, on_queued: Callable[[Sequence[int]], None]) -> None:
        """Wait until the broker admits the session, and join its lane.

        Args:
            on_queued: called with the job ids ahead, if the session has to wait.
        Raises:
            PeerUnreachableError: the broker does not answer.
            StateError: one of the jobs is in another session.
        """
        while True:
            answer = self._answers.get()
            if isinstance(answer, errors.QuakeGridError):
                raise answer
            if answer.HasField("queued"):
                on_queued(answer.queued.ahead_job_ids)
            elif answer.HasField("admitted"):
                self._join(answer.admitted)
                return

    def submit(self, frames: Sequence[bytes | memoryview], task: LaneTask) -> int:
        """Send a task to the lane; returns its id. Large frames are not copied: leave them unchanged."""
        self._check()
        assert self._dealer is not None
        task_id = self._next_task_id
        self._next_task_id += 1
        submission = lane_pb2.SubmitTask(
            session_id=self.session_id,
            task_id=task_id,
            weight=task.weight,
            operation=task.operation,
            is_short=task.is_short,
            max_attempts=task.max_attempts,
        )
        header = lane_pb2.LaneMessage(submit_task=submission).SerializeToString()
        lane.send_frames(self._dealer, [header, *frames])
        return task_id

    def receive(self) -> LaneOutcome:
        """Wait for the next outcome of any task.

        Raises:
            QuakeGridError: the session was ended by the broker, or the broker is gone.
        """
        while True:
            outcome = self.receive_ready()
            if outcome is not None:
                return outcome
            self.wait()

    def receive_ready(self) -> LaneOutcome | None:
        """The next outcome if it is here already; raises like `receive`."""
        assert self._dealer is not None
        self._check()
        received = lane.receive_frames(self._dealer)
        if received is None:
            return None
        header, *frames = received
        message = lane_pb2.LaneMessage.FromString(header.bytes)
        match message.WhichOneof("body"):
            case "outcome":
                outcome = message.outcome
                return LaneOutcome(
                    outcome.lease.task_id, frames, outcome.error, outcome.duration_s, outcome.worker_id
                )
            case "task_failed":
                return _failed(message.task_failed)
            case "refused":
                raise errors.QuakeGridError(f"the lane refused this session: {message.refused.reason}")
            case other:
                raise errors.PeerError(f"the lane sent {other!r} to a driver")

    def wait(self) -> None:
        """Wait for an outcome, for the session's failure or for `wake`."""
        ready = {source for source, _ in self._poller.poll()}
        if self._wakeup in ready:
            os.eventfd_read(self._wakeup)

    def wake(self) -> None:
        """End a `wait`, now or the next one; for any thread."""
        os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        """End the session; the broker stops its workers."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._stream.cancel()  # type: ignore[no-untyped-call]
        self._channel.close()
        if self._dealer and self._context:
            self._dealer.close(linger=0)
            self._context.term()

    def _join(self, admitted: broker_pb2.SessionAdmitted) -> None:
        self.session_id, self.core_count = admitted.session_id, admitted.core_count
        self._context = zmq.Context()
        identity = f"driver-{admitted.session_id}-{os.getpid()}".encode()
        self._dealer = lane.connect_dealer(
            self._context, admitted.lane_endpoint, self._settings.authkey, identity
        )
        join = lane_pb2.Join(protocol_version=lane.PROTOCOL_VERSION, session_id=admitted.session_id)
        self._dealer.send(lane_pb2.LaneMessage(join=join).SerializeToString())
        self._poller.register(self._dealer, zmq.POLLIN)
        self._poller.register(self._wakeup, zmq.POLLIN)

    def _check(self) -> None:
        if self._failure:
            raise self._failure

    def _read_stream(self) -> None:
        """Thread: pass on what the broker says until the stream ends."""
        try:
            for answer in self._stream:
                if answer.HasField("aborted"):
                    os.kill(os.getpid(), signal.SIGINT)  # the engine's own way to stop
                elif answer.HasField("failed"):
                    self._fail(errors.QuakeGridError(answer.failed.reason))
                else:
                    self._answers.put(answer)
        except grpc.RpcError as exc:
            if not self._closed.is_set():
                self._fail(rpc.translate(exc, "broker", self._settings.broker_address))

    def _fail(self, failure: errors.QuakeGridError) -> None:
        self._failure = failure
        self._answers.put(failure)
        self.wake()


def _failed(failed: lane_pb2.TaskFailed) -> LaneOutcome:
    lease, reasons = failed.lease, tuple(failed.reasons)
    error = (
        f"task {lease.task_id} ({failed.operation}) ended its worker {len(reasons)} times "
        f"and is not tried again: {'; '.join(reasons)}"
    )
    return LaneOutcome(lease.task_id, (), error, reasons=reasons)
