"""A driver's stream from the broker: when its session may start, when it must stop, what its workers print.

A thread reads it, and opens it again when the broker was started again; `stream_rules.py` decides. Does not
depend on lanes and tasks.
"""

from __future__ import annotations

import contextlib
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
from quakegrid.session.options import OPEN_PATIENCE_S, Patience, SessionOptions
from quakegrid.session.stage_teller import Stages, StageTeller
from quakegrid.session.stream_rules import Heard, Next, StreamRules, StreamState
from quakegrid.session.wakeup import Wakeup
from quakegrid.session.worker_output import WordsRelay
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels

# The events for a driver that waits for its turn. An error is the last one.
Answer = sessions_pb2.OpenSessionResponse | errors.QuakeGridError


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
        self._rules = StreamRules(_request(options), patience)
        self._lock = threading.Lock()  # of moves, and of opening a stream, which must not follow a `close`
        self._closed = threading.Event()
        self._output_flushed = threading.Event()
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.words = WordsRelay()
        self.stages = StageTeller(self._tell_stages, patience.stages_s)
        self._open()
        self._thread = threading.Thread(target=self._run, name="session", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether this driver has ended the session."""
        return self._rules.state is StreamState.CLOSED

    @property
    def failure(self) -> errors.QuakeGridError | None:
        """Why the session has failed; None while it has not."""
        return self._rules.failure

    @property
    def abort_reason(self) -> str:
        """Why the broker told this driver to stop; empty if it did not."""
        return self._rules.abort_reason

    @property
    def session_id(self) -> int:
        """The session's number; 0 until a broker admits it."""
        return self._rules.session_id

    @property
    def admission_count(self) -> int:
        """How often a broker has admitted the session: more than once if it was started again."""
        return self._rules.admission_count

    def check(self) -> None:
        """Raise the session's error, if it has failed."""
        if self.failure:
            raise self.failure

    def flush_output(self) -> None:
        """Wait until all lines that the workers have printed are here, if the broker answers."""
        timeout_s = self._patience.flush_s
        try:
            self._link.flush_output(self.session_id, self._rules.request.resumed_token, timeout_s)
        except (grpc.RpcError, ValueError):  # the latter: the channel was closed, to try another
            return
        self._output_flushed.wait(timeout_s)

    def close(self) -> bool:
        """End the session; returns False if it was closed before. From now on no stream is opened."""
        with self._lock:
            _set_alarm(self._options, 0)
            if not self._rules.close():
                return False
        self._closed.set()
        self.stages.close()
        if self.session_id and not self.failure:
            # Without an answer the broker sees that the driver has ended.
            with contextlib.suppress(grpc.RpcError, ValueError):
                self._link.close_session(
                    self.session_id, self._rules.request.resumed_token, self._patience.close_s
                )
        self._stream.cancel()
        self._link.close()
        return True

    def _tell_stages(self, stages: Stages) -> bool:
        """Tell the broker how far the driver is; returns False if it did not hear it."""
        if self.failure:
            return True
        token = self._rules.request.resumed_token
        request = sessions_pb2.TellStagesRequest(
            session_id=self.session_id, session_token=token, stages=stages
        )
        try:
            self._link.tell_stages(request, self._patience.flush_s)
        except (grpc.RpcError, ValueError):
            return False
        return True

    def _open(self) -> None:
        self._link = self._connect(self._settings)
        self._stream = self._link.open(self._rules.request)

    # --- the thread

    def _run(self) -> None:
        try:
            self._follow_broker()
        except BaseException as exc:  # noqa: BLE001 - nobody else would tell the threads that wait
            self._fail(errors.QuakeGridError(f"the thread of the session ended: {exc!r}"))

    def _follow_broker(self) -> None:
        """Pass on the broker's messages until the session ends, also when the broker is started again."""
        while True:
            was_reached, ended = self._read_stream()
            address = self._settings.broker_address
            failure = grpc_channels.translate(ended, "broker", address) if ended is not None else None
            with self._lock:
                follows = self._rules.lose(failure, time.monotonic(), was_reached=was_reached)
            if follows is Next.FAIL:
                self._fail(self._rules.why_ended(failure))
            if follows in (Next.FAIL, Next.END):
                return
            if follows is Next.WAIT_FOR_BROKER:
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
            if self.is_closed:
                return False
            self._link.close()
            self._open()
            return True

    def _on_answer(self, answer: sessions_pb2.OpenSessionResponse) -> None:
        with self._lock:
            heard = self._rules.take(answer)
            if heard is Heard.ABORTED:
                _set_alarm(self._options, self._options.hang_grace_s)
        match heard:
            case Heard.QUEUED | Heard.ADMITTED:
                self.answers.put(answer)
            case Heard.ADMITTED_AGAIN:
                self.stages.tell_again()
                self.wakeup.set()
            case Heard.ABORTED:
                os.kill(os.getpid(), signal.SIGINT)  # the engine's own way to stop
                self.wakeup.set()
            case Heard.FAILED:
                self._tell_failure()
            case _:
                self._on_words(heard, answer)

    def _on_words(self, heard: Heard, answer: sessions_pb2.OpenSessionResponse) -> None:
        """Pass on what is for people; anything else is no news."""
        match heard:
            case Heard.OUTPUT:
                self.words.pass_output(answer.worker_output)
            case Heard.OUTPUT_FLUSHED:
                self._output_flushed.set()
            case Heard.NODE_LEFT_OUT:
                left_out = answer.node_left_out
                self._options.needs.warn(
                    f"node {left_out.node} is left out: {', '.join(left_out.differences)}"
                )

    def _fail(self, failure: errors.QuakeGridError) -> None:
        with self._lock:
            has_failed = self._rules.fail(failure)
        if has_failed:
            self._tell_failure()

    def _tell_failure(self) -> None:
        assert self.failure is not None
        self.answers.put(self.failure)
        self.wakeup.set()


def _set_alarm(options: SessionOptions, after_s: int) -> None:
    """Let the kernel end this process later, whatever it does then; 0 for not any more."""
    if options.hang_grace_s:  # other programs may have an alarm of their own
        signal.alarm(after_s)


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
