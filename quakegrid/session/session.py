"""A driver's session with the broker, and its lane.

The session stream tells when the driver may start and when it must stop; a thread reads it. The lane
socket belongs to the one thread that submits and receives. Payloads and outcomes are frames. Every task is
held until its outcome is here, and told again whenever the lane says hello.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import queue
import secrets
import signal
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc

from quakegrid import errors
from quakegrid.blobs import shared_memory
from quakegrid.blobs.local_store import LocalBlobs
from quakegrid.blobs.table import BlobTable, Digests
from quakegrid.internal.v1 import sessions_pb2, sessions_pb2_grpc
from quakegrid.session import worker_output as worker_words
from quakegrid.session.lane_tasks import NO_NEEDS, LaneOutcome, LaneTask, Needs, failed_outcome
from quakegrid.session.worker_output import OnWords, WorkerWords
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels, lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.wire.v1 import lane_pb2

log = logging.getLogger("quakegrid.session.session")
HELLO_TIMEOUT_S = 30.0
# How long a driver looks for a broker that is gone; its lane's port must be served again by then.
BROKER_PATIENCE_S = 60.0
# The same before the first answer, for a calculation; other programs hear at once that there is none.
OPEN_PATIENCE_S = 30.0
BROKER_RETRY_S = 0.5
# A lane that does not know our session may come to know it. It is told again after so long, then after twice
# that, and so on, for as long as we look for a broker.
REFUSED_RETRY_S = 1.0
# Ids in one message; no header is a mebibyte or more.
CANCELLED_AT_ONCE = 50_000
OPERATION_CHARACTERS = 200
# How long the end of a session waits for the last lines of its workers.
FLUSH_TIMEOUT_S = 1.0
CLOSE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class _Pending:
    """A task without its outcome: the message that submits it, and the blobs that it names."""

    message: Sequence[bytes | memoryview]
    refs: Sequence[lane_pb2.BlobRef]


def waiting_words(settings: Settings) -> str:
    """What a calculation says that begins while there is no broker."""
    address = settings.broker_address
    return f"the broker at {address} does not answer; waiting for it, {OPEN_PATIENCE_S:.0f} s at most"


class Session:
    """An open session; a context manager.

    Args:
        settings: of the cluster.
        job_ids: jobs that this driver runs; empty for work without a job.
        user_name: whose they are.
        worker_setup: pickle of what each worker calls first, `EngineSetup` (quakegrid.engine) or
            `WorkerSetup` (quakegrid.sdk).
        is_local: no workers are wanted.
        max_workers: at most, 0 for no limit.
        weight: its part of the cores against the weights of other sessions, 0.01 to 100.
        cores_per_worker: what each of its workers should have; fewer where a node has not so many free.
        needs: what the nodes of its workers must have.
    """

    def __init__(  # noqa: PLR0913 - one for each thing that a session may ask for
        self,
        settings: Settings,
        job_ids: Sequence[int],
        *,
        user_name: str,
        worker_setup: bytes,
        is_local: bool = False,
        max_workers: int = 0,
        weight: float = 1.0,
        cores_per_worker: int = 1,
        needs: Needs = NO_NEEDS,
    ) -> None:
        self._settings, self._warn = settings, needs.warn
        self._request = sessions_pb2.OpenSessionRequest(
            job_ids=job_ids,
            user_name=user_name,
            host=socket.gethostname(),
            pid=os.getpid(),
            worker_setup=worker_setup,
            is_local=is_local,
            max_workers=max_workers,
            weight=weight,
            cores_per_worker=cores_per_worker,
            fingerprint=needs.fingerprint,
            driver_nonce=secrets.token_bytes(16),
        )
        self._open_stream()
        self._answers: queue.SimpleQueue[sessions_pb2.OpenSessionResponse | errors.QuakeGridError] = (
            queue.SimpleQueue()
        )
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        weakref.finalize(self, os.close, self._wakeup).atexit = False  # any thread may still wake us
        self._failure: errors.QuakeGridError | None = None
        self.abort_reason = ""
        self._closed = threading.Event()
        self._on_words: OnWords = lambda _words: None
        self._output_flushed = threading.Event()
        self._dealer: zmq.Socket[bytes] | None = None
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._poller = zmq.Poller()
        self._is_message_here = False
        self._next_task_id = 1
        self._pending: dict[int, _Pending] = {}
        self._is_queued = False
        self._is_admitted = False
        self._has_joined = False  # the lane has confirmed it, at least once
        self._is_readmitted = False  # by a new broker
        # Since the lane knows our session no more: when we tell it again, and when we give up.
        self._retry_s = self._refused_end_s = math.inf
        self._retry_delay_s = REFUSED_RETRY_S
        self._stream_lock = threading.Lock()
        self._taken_bytes = 0  # of outcomes, since the lane was last told
        self.blobs = BlobTable()
        self.session_id = 0
        self.core_count = 0
        threading.Thread(target=self._read_stream, name="session", daemon=True).start()

    def wait_for_turn(
        self, on_queued: Callable[[Sequence[int]], None], on_words: OnWords | None = None
    ) -> None:
        """Wait until the broker admits the session, and join its lane.

        Args:
            on_queued: called with the job ids ahead, if the session has to wait.
            on_words: called from then on, in any thread, with what workers print, and when one dies.
        Raises:
            PeerUnreachableError: the broker does not answer.
            StateError: one of the jobs is in another session.
        """
        self._on_words = on_words or self._on_words
        while True:
            answer = self._answers.get()
            if isinstance(answer, errors.QuakeGridError):
                raise answer
            if answer.HasField("queued"):
                on_queued(answer.queued.ahead_job_ids)
            elif answer.HasField("admitted"):
                self._join(answer.admitted)
                return

    def submit(
        self, frames: Sequence[bytes | memoryview], task: LaneTask, digests: Digests | None = None
    ) -> int:
        """Send a task to the lane; returns its id.

        Args:
            frames: the payload. Large ones are not copied: leave them unchanged until the outcome is here.
            task: what the lane should know.
            digests: hashes of objects behind frames that are known already.
        """
        self._check()
        task_id = self._next_task_id
        self._next_task_id += 1
        split = self.blobs.split(frames, {} if digests is None else digests)
        submission = lane_pb2.SubmitTask(
            session_id=self.session_id,
            task_id=task_id,
            weight=task.weight,
            operation=task.operation[:OPERATION_CHARACTERS],
            expected_s=task.expected_s,
            max_attempts=task.max_attempts,
            blobs=split.refs,
        )
        header = lane_pb2.LaneMessage(submit_task=submission).SerializeToString()
        pending = self._pending[task_id] = _Pending([header, *split.frames], split.refs)
        for blob_id, content in split.to_put:
            self._put_blob(blob_id, content)
        self._send(pending.message)
        return task_id

    def cancel(self, task_ids: Sequence[int]) -> None:
        """Do without the outcomes of tasks; those that wait are not run."""
        if self._closed.is_set():
            return
        for task_id in task_ids:
            self._forget(task_id)
        for start in range(0, len(task_ids), CANCELLED_AT_ONCE):
            some = task_ids[start : start + CANCELLED_AT_ONCE]
            cancelled = lane_pb2.CancelTasks(session_id=self.session_id, task_ids=some)
            self._send([lane_pb2.LaneMessage(cancel_tasks=cancelled).SerializeToString()])

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
        if self._is_readmitted or self._retry_s < math.inf:
            self._tell_again()
        while (received := self._receive_frames(self._dealer)) is not None:
            outcome = self._take(received)
            if outcome is not None and self._forget(outcome.task_id):
                return outcome
        return None

    def _receive_frames(self, dealer: zmq.Socket[bytes]) -> list[zmq.Frame] | None:
        """The next message, if there is one; after a `wait` that saw one without looking again."""
        is_here, self._is_message_here = self._is_message_here, False
        return lane_sockets.receive_announced(dealer) if is_here else lane_sockets.receive_frames(dealer)

    def _take(self, received: list[zmq.Frame]) -> LaneOutcome | None:
        if lane_sockets.is_probe(received):
            self._send([lane_sockets.PROBE])
            return None
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
                return None
            case "get_blob":
                self._put_blob(message.get_blob.blob_id, self.blobs.content(message.get_blob.blob_id))
                return None
            case "worker_died":
                self._pass_on(worker_words.from_death(message.worker_died))
                return None
            case "joined":
                # What the lane refused just before, it is still to be told again: it may have heard of our
                # session between a task and the join that follows it.
                self._has_joined, self._retry_delay_s = True, REFUSED_RETRY_S
                self._refused_end_s = math.inf
                return None
            case "refused":
                self._on_refused(message.refused)
                return None
            case other:
                raise errors.PeerError(f"the lane sent {other!r} to a driver")

    def wait(self) -> None:
        """Wait for an outcome, for the session's failure or for `wake`."""
        timeout_ms = None if self._retry_s == math.inf else _ms_until(self._retry_s)
        ready = {source for source, _ in self._poller.poll(timeout_ms)}
        self._is_message_here = self._dealer in ready
        if self._wakeup in ready:
            os.eventfd_read(self._wakeup)

    def wake(self) -> None:
        """End a `wait`, now or the next one; for any thread."""
        os.eventfd_write(self._wakeup, 1)

    def close(self) -> None:
        """End the session; the broker stops its workers."""
        if self._closed.is_set():
            return
        if self._has_joined and not self._failure:
            self._flush_output()
        with self._stream_lock:  # from now on no stream is opened
            self._closed.set()
        if self.session_id and not self._failure:
            closing = sessions_pb2.CloseSessionRequest(session_id=self.session_id)
            with contextlib.suppress(grpc.RpcError, ValueError):  # it learns of our end, or has gone
                sessions_pb2_grpc.SessionsStub(self._channel).CloseSession(closing, timeout=CLOSE_TIMEOUT_S)
        self._stream.cancel()  # type: ignore[no-untyped-call]
        self._channel.close()
        if self._dealer and self._context:
            self._dealer.close(linger=0)
            self._context.term()

    def _flush_output(self) -> None:
        """Wait for what the workers have printed, if the broker answers."""
        request = sessions_pb2.FlushSessionOutputRequest(session_id=self.session_id)
        try:
            sessions_pb2_grpc.SessionsStub(self._channel).FlushSessionOutput(request, timeout=FLUSH_TIMEOUT_S)
        except (grpc.RpcError, ValueError):  # the latter: the channel was closed, to try another
            return
        self._output_flushed.wait(FLUSH_TIMEOUT_S)

    def _join(self, admitted: sessions_pb2.SessionAdmitted) -> None:
        """Connect to the lane and wait until it confirms that we have joined."""
        self.session_id, self.core_count = admitted.session_id, admitted.core_count
        self._context = zmq.Context()
        identity = lane_names.driver_name(admitted.session_id, admitted.session_token)
        self._dealer = lane_sockets.connect_dealer(
            self._context, admitted.lane_endpoint, self._settings.authkey, identity
        )
        self._poller.register(self._dealer, zmq.POLLIN)
        self._poller.register(self._wakeup, zmq.POLLIN)
        end_s, is_woken = time.monotonic() + HELLO_TIMEOUT_S, False
        while not self._has_joined:
            self._check()
            ready = {source for source, _ in self._poller.poll(_ms_until(min(end_s, self._retry_s)))}
            if self._wakeup in ready:  # else the next poll would not wait
                os.eventfd_read(self._wakeup)
                is_woken = True
            if time.monotonic() >= end_s:
                raise errors.PeerUnreachableError(
                    f"the lane at {admitted.lane_endpoint} does not answer; does a firewall let through "
                    "the ports that [dbserver] receiver_ports in openquake.cfg names?"
                )
            self.receive_ready()
        if is_woken:
            self.wake()  # for the first `wait`

    def _greet(self, hello: lane_pb2.Hello) -> None:
        """Tell the lane all that we wait for, then join; what it knows already does no harm."""
        if hello.protocol_version != lane_sockets.PROTOCOL_VERSION:
            raise errors.PeerError(
                f"the lane speaks version {hello.protocol_version} of the lanes, this driver version "
                f"{lane_sockets.PROTOCOL_VERSION}; install the same QuakeGrid on all machines"
            )
        state_dir = self._settings.state_dir
        if hello.blob_folder_id == shared_memory.folder_id(state_dir):
            folder = shared_memory.folder(state_dir) / str(self.session_id)
            self.blobs.store = self.blobs.store or LocalBlobs(folder, self._settings.lane_memory_bytes)
        self._tell_lane()

    def _tell_lane(self) -> None:
        for blob_id, content in self.blobs.start_again():
            self._put_blob(blob_id, content)
        for pending in self._pending.values():
            self._send(pending.message)
        self._taken_bytes = 0
        join = lane_pb2.Join(protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=self.session_id)
        self._send([lane_pb2.LaneMessage(join=join).SerializeToString()])

    def _tell_again(self) -> None:
        """Tell the lane everything once more if it is time: it may have refused what came before."""
        now_s = time.monotonic()
        if self._is_readmitted or now_s >= self._retry_s:
            self._is_readmitted, self._retry_s = False, math.inf
            self._tell_lane()

    def _on_refused(self, refused: lane_pb2.Refused) -> None:
        """The lane did not take a message of ours.

        A lane that does not know our session is a new broker's, which will, or our session is over, which our
        stream tells. So it is told again for a while. Anything else is an error.
        """
        now_s = time.monotonic()
        self._refused_end_s = min(self._refused_end_s, now_s + BROKER_PATIENCE_S)
        if not refused.is_unknown_session or now_s >= self._refused_end_s:
            raise errors.QuakeGridError(f"the lane refused this session: {refused.reason}")
        if self._retry_s == math.inf:
            self._retry_s = now_s + self._retry_delay_s
            self._retry_delay_s *= 2

    def _forget(self, task_id: int) -> bool:
        """Let go of a task; tells whether we still waited for it."""
        pending = self._pending.pop(task_id, None)
        if pending is None:
            return False
        self.blobs.done(pending.refs)
        return True

    def _acknowledge(self, frames: Sequence[zmq.Frame]) -> None:
        self._taken_bytes += lane_sockets.message_bytes(frames)
        if self._taken_bytes >= lane_sockets.RECEIPT_BYTES:
            received = lane_pb2.Received(session_id=self.session_id, byte_count=self._taken_bytes)
            self._taken_bytes = 0
            self._send([lane_pb2.LaneMessage(received=received).SerializeToString()])

    def _put_blob(self, blob_id: bytes, content: bytes | memoryview | None) -> None:
        """Put a content to the lane; None tells that nobody waits for its tasks any more."""
        put = lane_pb2.PutBlob(session_id=self.session_id, blob_id=blob_id)
        header = lane_pb2.LaneMessage(put_blob=put).SerializeToString()
        self._send([header] if content is None else [header, content])

    def _send(self, message: Sequence[bytes | memoryview]) -> None:
        assert self._dealer is not None
        lane_sockets.send_frames(self._dealer, lane_sockets.cut_message(message))

    def _check(self) -> None:
        if self._failure:
            raise self._failure

    def _read_stream(self) -> None:
        """Thread: pass on what the broker says until the session ends."""
        try:
            self._follow_broker()
        except BaseException as exc:  # noqa: BLE001 - nobody else would tell those who wait
            self._fail(errors.QuakeGridError(f"the thread of the session ended: {exc!r}"))

    def _follow_broker(self) -> None:
        """Pass on what the broker says, also after it was started again, until the session ends."""
        patience_end_s = 0.0
        while True:
            ended: grpc.RpcError | None = None
            try:
                self._stream.initial_metadata()  # comes at once, also when the broker has nothing to say
                if self._stream.is_active():
                    patience_end_s = 0.0
                for answer in self._stream:
                    self._on_answer(answer)
            except grpc.RpcError as exc:
                ended = exc
            failure = self._why_ended(ended)
            now_s = time.monotonic()
            is_known = self._is_admitted or self._is_queued
            open_s = OPEN_PATIENCE_S if self._request.job_ids else 0.0
            patience_s = BROKER_PATIENCE_S if is_known else open_s
            is_first = not patience_end_s
            patience_end_s = patience_end_s or now_s + patience_s
            is_over = not isinstance(failure, errors.PeerUnreachableError) or now_s >= patience_end_s
            if is_over or self._failure:
                self._fail(failure)
                return
            if is_first and not is_known:
                self._warn(waiting_words(self._settings))
            if self._closed.wait(BROKER_RETRY_S):
                return
            with self._stream_lock:
                if self._closed.is_set():
                    return
                self._channel.close()
                self._open_stream()

    def _why_ended(self, exc: grpc.RpcError | None) -> errors.QuakeGridError:
        """Why a stream is over; one that is unreachable is tried again.

        Once told of an abort we go on with no other broker: one that was started since knows of none, and
        would keep the session of a driver that waits for its end.
        """
        if self.abort_reason:
            return errors.StateError(f"the session has ended: {self.abort_reason}")
        if exc is None:
            return errors.PeerUnreachableError("the broker ended the session")
        return grpc_channels.translate(exc, "broker", self._settings.broker_address)

    def _open_stream(self) -> None:
        """Ask for the session, on a channel of its own for each try: its certificate is fresh."""
        self._channel = grpc_channels.open_channel(self._settings.broker_address, self._settings.authkey)
        self._stream = sessions_pb2_grpc.SessionsStub(self._channel).OpenSession(self._request)

    def _on_answer(self, answer: sessions_pb2.OpenSessionResponse) -> None:
        if answer.HasField("aborted"):
            self.abort_reason = answer.aborted.reason or "aborted"
            os.kill(os.getpid(), signal.SIGINT)  # the engine's own way to stop
            self.wake()
        elif answer.HasField("failed"):
            self._fail(errors.QuakeGridError(answer.failed.reason))
        elif answer.HasField("worker_output"):
            for words in worker_words.from_output(answer.worker_output):
                self._pass_on(words)
        elif answer.HasField("output_flushed"):
            self._output_flushed.set()
        elif answer.HasField("node_left_out"):
            left_out = answer.node_left_out
            self._warn(f"node {left_out.node} is left out: {', '.join(left_out.differences)}")
        elif not self._is_admitted:
            self._is_queued = answer.HasField("queued")
            if answer.HasField("admitted"):
                self._note_admission(answer.admitted)
            self._answers.put(answer)
        elif answer.HasField("admitted"):
            self._is_readmitted = True
            self.wake()

    def _pass_on(self, words: WorkerWords) -> None:
        """Show what a worker said, which is worth no calculation: a terminal may be gone."""
        try:
            self._on_words(words)
        except Exception:
            log.exception("words_lost")

    def _note_admission(self, admitted: sessions_pb2.SessionAdmitted) -> None:
        """What we show to a broker that is started again."""
        self._is_admitted = True
        self._request.resumed_session_id = admitted.session_id
        self._request.resumed_token = admitted.session_token
        self._request.lane_port = int(admitted.lane_endpoint.rpartition(":")[2])

    def _fail(self, failure: errors.QuakeGridError) -> None:
        if self._failure or self._closed.is_set():
            return  # the first one says why
        self._failure = failure
        self._answers.put(failure)
        self.wake()


def _ms_until(end_s: float) -> int:
    """Milliseconds until an instant of the monotonic clock, for a poller."""
    return max(0, int((end_s - time.monotonic()) * 1000) + 1)
