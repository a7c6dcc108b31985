"""A driver's stream from the broker: when its session may start, when it must stop, what its workers print.

A thread reads it, and opens it again when the broker was started again. Does not depend on lanes and tasks.
"""

from __future__ import annotations

import contextlib
import enum
import os
import queue
import secrets
import signal
import socket
import threading
import time

import grpc

from quakegrid import errors
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.session.broker_link import BrokerLink, Connect
from quakegrid.session.broker_patience import BrokerPatience
from quakegrid.session.options import OPEN_PATIENCE_S, Patience, SessionOptions
from quakegrid.session.wakeup import Wakeup
from quakegrid.session.worker_output import WordsRelay
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels

# The events for a driver that waits for its turn. An error is the last one.
Answer = sessions_pb2.OpenSessionResponse | errors.QuakeGridError


class StreamState(enum.Enum):
    """The state of a session, as its broker tells it."""

    OPENING = enum.auto()  # no broker has answered yet
    QUEUED = enum.auto()
    ADMITTED = enum.auto()
    ABORTED = enum.auto()  # the driver was told to stop; the broker ends the stream
    FAILED = enum.auto()
    CLOSED = enum.auto()


# A move that is not here changes nothing: it comes from a late message, or from two threads that end a
# session at the same time.
MOVES: dict[StreamState, frozenset[StreamState]] = {
    StreamState.OPENING: frozenset(StreamState) - {StreamState.OPENING},
    StreamState.QUEUED: frozenset(StreamState) - {StreamState.OPENING},
    StreamState.ADMITTED: frozenset(StreamState) - {StreamState.OPENING, StreamState.QUEUED},
    StreamState.ABORTED: frozenset({StreamState.ABORTED, StreamState.FAILED, StreamState.CLOSED}),
    StreamState.FAILED: frozenset({StreamState.CLOSED}),
    StreamState.CLOSED: frozenset(),
}


def waiting_words(settings: Settings) -> str:
    """The message of a calculation that begins while there is no broker."""
    address = settings.broker_address
    return f"the broker at {address} does not answer; waiting for it, {OPEN_PATIENCE_S:.0f} s at most"


class BrokerStream:
    """The stream of one session; its thread runs from the start.

    Args:
        settings: of the cluster.
        options: what the session asks for.
        wakeup: of the thread that waits for the lane; set when the session is admitted anew, or fails.
        patience: how long to wait.
        connect: makes a connection with the broker.
    """

    def __init__(
        self,
        settings: Settings,
        options: SessionOptions,
        wakeup: Wakeup,
        patience: Patience,
        connect: Connect = BrokerLink,
    ) -> None:
        self._settings, self._options, self.wakeup = settings, options, wakeup
        self._patience, self._connect = patience, connect
        self._request = _request(options)
        self._state = StreamState.OPENING
        self._lock = threading.Lock()  # of moves, and of opening a stream, which must not follow a `close`
        self._closed = threading.Event()
        self._output_flushed = threading.Event()
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.failure: errors.QuakeGridError | None = None
        self.abort_reason = ""
        self.session_id = 0
        # How often a broker has admitted the session: more than once if it was started again.
        self.admission_count = 0
        self.words = WordsRelay()
        self._open()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether this driver has ended the session."""
        return self._state is StreamState.CLOSED

    def check(self) -> None:
        """Raise the session's error, if it has failed."""
        if self.failure:
            raise self.failure

    def flush_output(self) -> None:
        """Wait until all lines that the workers have printed are here, if the broker answers."""
        timeout_s = self._patience.flush_s
        try:
            self._link.flush_output(self.session_id, self._request.resumed_token, timeout_s)
        except (grpc.RpcError, ValueError):  # the latter: the channel was closed, to try another
            return
        self._output_flushed.wait(timeout_s)

    def close(self) -> bool:
        """End the session; returns False if it was closed before. From now on no stream is opened."""
        if not self._move(StreamState.CLOSED):
            return False
        self._closed.set()
        if self.session_id and not self.failure:
            # Without an answer the broker sees that the driver has ended.
            with contextlib.suppress(grpc.RpcError, ValueError):
                self._link.close_session(self.session_id, self._request.resumed_token, self._patience.close_s)
        self._stream.cancel()
        self._link.close()
        return True

    def _move(self, state: StreamState) -> bool:
        """Change the state if that is allowed; returns whether it was."""
        with self._lock:
            is_allowed = state in MOVES[self._state]
            if is_allowed:
                self._state = state
            return is_allowed

    def _open(self) -> None:
        self._link = self._connect(self._settings)
        self._stream = self._link.open(self._request)

    # --- the thread

    def _run(self) -> None:
        try:
            self._follow_broker()
        except BaseException as exc:  # noqa: BLE001 - nobody else would tell the threads that wait
            self._fail(errors.QuakeGridError(f"the thread of the session ended: {exc!r}"))

    def _follow_broker(self) -> None:
        """Pass on the broker's messages until the session ends, also when the broker is started again."""
        patience = BrokerPatience(self._patience, is_calculation=bool(self._options.job_ids))
        while True:
            was_reached, ended = self._read_stream()
            failure = self._why_ended(ended)
            now_s = time.monotonic()
            is_known = self._state is not StreamState.OPENING
            is_first = patience.lose(now_s, was_reached=was_reached, is_known=is_known)
            if not isinstance(failure, errors.PeerUnreachableError) or patience.is_over(now_s):
                self._fail(failure)
                return
            if self.failure:
                return
            if is_first and not is_known:
                self._options.needs.warn(waiting_words(self._settings))
            if self._closed.wait(self._patience.broker_retry_s) or not self._open_again():
                return

    def _read_stream(self) -> tuple[bool, grpc.RpcError | None]:
        """Take the messages of one stream.

        Returns:
            Whether the broker took the call, and why the stream broke.
        """
        was_reached = False
        try:
            self._stream.initial_metadata()  # comes at once, also when the broker has nothing to say
            was_reached = self._stream.is_active()
            for answer in self._stream:
                self._on_answer(answer)
        except grpc.RpcError as exc:
            return was_reached, exc
        return was_reached, None

    def _open_again(self) -> bool:
        """Open another stream; returns False if the session was closed meanwhile."""
        with self._lock:
            if self._state is StreamState.CLOSED:
                return False
            self._link.close()
            self._open()
            return True

    def _why_ended(self, exc: grpc.RpcError | None) -> errors.QuakeGridError:
        """Why a stream is over. If the broker is unreachable, another stream is opened.

        A session that was aborted does not go on with another broker. Such a broker does not know of the
        abort, and would keep the session, while the driver waits for its end.
        """
        if self.abort_reason:
            return errors.StateError(f"the session has ended: {self.abort_reason}")
        if exc is None:
            return errors.PeerUnreachableError("the broker ended the session")
        return grpc_channels.translate(exc, "broker", self._settings.broker_address)

    def _on_answer(self, answer: sessions_pb2.OpenSessionResponse) -> None:
        match answer.WhichOneof("event"):
            case "queued":
                self._on_queued(answer)
            case "admitted":
                self._on_admitted(answer)
            case "aborted":
                self._on_aborted(answer.aborted.reason or "aborted")
            case "failed":
                self._fail(errors.QuakeGridError(answer.failed.reason))
            case "worker_output":
                self.words.pass_output(answer.worker_output)
            case "output_flushed":
                self._output_flushed.set()
            case "node_left_out":
                left_out = answer.node_left_out
                self._options.needs.warn(
                    f"node {left_out.node} is left out: {', '.join(left_out.differences)}"
                )
            case _:  # a message that only a newer broker sends
                return

    def _on_queued(self, answer: sessions_pb2.OpenSessionResponse) -> None:
        if not self._move(StreamState.QUEUED):
            return
        self.answers.put(answer)

    def _on_admitted(self, answer: sessions_pb2.OpenSessionResponse) -> None:
        if not self._move(StreamState.ADMITTED):
            return
        self.admission_count += 1
        if self.admission_count > 1:
            self.wakeup.set()
            return
        admitted = answer.admitted
        self.session_id = admitted.session_id
        # The request for a broker that was started again.
        self._request.resumed_session_id = admitted.session_id
        self._request.resumed_token = admitted.session_token
        self._request.lane_port = int(admitted.lane_endpoint.rpartition(":")[2])
        self.answers.put(answer)

    def _on_aborted(self, reason: str) -> None:
        if not self._move(StreamState.ABORTED):
            return
        self.abort_reason = reason
        os.kill(os.getpid(), signal.SIGINT)  # the engine's own way to stop
        self.wakeup.set()

    def _fail(self, failure: errors.QuakeGridError) -> None:
        if not self._move(StreamState.FAILED):
            return  # the first failure is the reason
        self.failure = failure
        self.answers.put(failure)
        self.wakeup.set()


def _request(options: SessionOptions) -> sessions_pb2.OpenSessionRequest:
    return sessions_pb2.OpenSessionRequest(
        job_ids=options.job_ids,
        user_name=options.user_name,
        host=socket.gethostname(),
        pid=os.getpid(),
        worker_setup=options.worker_setup,
        is_local=options.is_local,
        max_workers=options.max_workers,
        weight=options.weight,
        cores_per_worker=options.cores_per_worker,
        fingerprint=options.needs.fingerprint,
        driver_nonce=secrets.token_bytes(16),
    )
