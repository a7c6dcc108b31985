"""A driver: the real rules of its session, its tasks and its holds, and a program that waits for all."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from quakegrid import errors
from quakegrid.engine.database.hold_keeper import AGAIN_AFTER_S, HOLD_S, RENEW_EVERY_S, HeldJobs
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.jobs.states import JobState
from quakegrid.nodes.fingerprint import CLOCK, CLOCK_FITS
from quakegrid.session.lane_client import LaneClient
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask
from quakegrid.session.options import HANG_GRACE_S, Patience
from quakegrid.session.stream_rules import Heard, Next, StreamRules
from quakegrid.session.worker_output import WordsRelay
from quakegrid.transport import lane_names, lane_sockets
from tests.simulation.fabric.calls import UP, Calls, Stream
from tests.simulation.fabric.wires import Message, Wire

if TYPE_CHECKING:
    from tests.simulation.parts.nodes import SimulatedNode
    from tests.simulation.world import World

PATIENCE = Patience()
RETRY_S = 0.5
ELSEWHERE = Path("/nowhere")


class TaskPlan(NamedTuple):
    """A task of a driver's program."""

    duration_s: float
    is_poison: bool = False
    weight: float = 1.0
    expected_s: float = 0.0
    operation: str = "work"


class Program(NamedTuple):
    """What a driver computes.

    Args:
        name: of it.
        tasks: what it submits.
        has_job: whether it is a calculation.
        max_workers: how many it wants at most; 0 for no limit.
        busy_s: how long it is busy with what it took, before it takes all that came meanwhile.
        width: cores for each worker.
        user_name: whose it is.
    """

    name: str
    tasks: Sequence[TaskPlan]
    has_job: bool = True
    max_workers: int = 0
    busy_s: float = 0.0
    width: int = 1
    user_name: str = "anna"


class StreamFace:
    """The driver's stream, as its lane client knows it."""

    def __init__(self, rules: StreamRules) -> None:
        self._rules = rules
        self.words = WordsRelay()

    @property
    def session_id(self) -> int:
        """The session's number."""
        return self._rules.session_id

    @property
    def admission_count(self) -> int:
        """How often a broker admitted it."""
        return self._rules.admission_count

    def check(self) -> None:
        """Raise the session's error."""
        if self._rules.failure:
            raise self._rules.failure


class SocketFace:
    """The driver's socket, as its lane client knows it."""

    def __init__(self) -> None:
        self.wire: Wire | None = None
        self.received: list[Message] = []
        self.awaits_hello = False
        self.sent_count = 0

    def send(self, message: Sequence[bytes | memoryview]) -> None:
        """Send without waiting."""
        assert self.wire is not None
        self.wire.send(message)
        self.sent_count += 1

    def receive(self) -> Message | None:
        """The next message; a probe is answered here."""
        while self.received:
            message = self.received.pop(0)
            if not lane_sockets.is_probe(message):  # type: ignore[arg-type]
                return message
            self.send([lane_sockets.PROBE])
            self.awaits_hello, self.sent_count = True, 0
        return None


class SimulatedDriver:
    """One driver process.

    Args:
        world: where it is.
        node: that it runs on.
        program: what it computes.
    """

    def __init__(self, world: World, node: SimulatedNode, program: Program) -> None:
        self._world, self.node, self.program = world, node, program
        self.pid = world.new_pid()
        self.is_alive, self.end_words = True, ""
        self.job_id = 0
        self.results: dict[int, str] = {}
        self.failures: dict[int, LaneOutcome] = {}
        self.is_aborted = self.is_closing = False
        self._holds = HeldJobs(())
        self._database = Calls(world.network, f"{program.name} to the dbserver", node.machine, UP)
        self._broker = Calls(world.network, f"{program.name} to the broker", node.machine, UP)
        self._stream: Stream | None = None
        self._was_reached = False
        self.rules: StreamRules | None = None
        self.client: LaneClient | None = None
        self._socket = SocketFace()
        self._has_submitted = False
        self._retry_s = math.inf
        self._is_busy = False
        node.drivers[self.pid] = self
        world.loop.call_soon(self._begin)

    @property
    def last_broken_s(self) -> float:
        """When its connection with its lane broke last."""
        return self._socket.wire.last_broken_s if self._socket.wire is not None else -math.inf

    # --- its end

    def die(self) -> None:
        """It is killed."""
        self._leave("killed", is_orderly=False)

    def _end_by_kernel(self, aborted_life: int) -> None:
        """Its time after the abort is over."""
        if self.is_alive:
            self._world.promises.on_ended_by_kernel(
                self, is_same_broker=aborted_life == self._world.master.life
            )
            self.die()

    def _leave(self, words: str, *, is_orderly: bool = True) -> None:
        if not self.is_alive:
            return
        self.is_alive, self.end_words = False, words
        if self._socket.wire is not None:
            self._socket.wire.close(is_orderly=is_orderly)
        if self._stream is not None:
            self._stream.leave()
        self.node.forget_driver(self.pid)
        self._world.promises.on_driver_ended(self)

    # --- its job

    def _begin(self) -> None:
        self.node.tell_status()
        if self.program.has_job:
            request_id = f"create {self.program.name}"
            self._insist(lambda: self._world.database.create(request_id, "anna"), self._on_created)
        else:
            self._open()

    def _insist(self, serve: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Call the dbserver until it has answered, with the same request."""

        def answer(result: Any, error: errors.QuakeGridError | None) -> None:
            if not self.is_alive:
                return
            if error is None:
                done(result)
            elif isinstance(error, errors.StateError | errors.NotFoundError):
                done(error)
            else:
                self._world.loop.call_later(RETRY_S, self._database.call, serve, answer)

        self._database.call(serve, answer)

    def _on_created(self, job_id: int) -> None:
        self.job_id = job_id
        self._holds = HeldJobs([job_id])
        self._renew(is_first=True)

    def _renew(self, *, is_first: bool = False) -> None:
        if not self.is_alive or self.job_id not in self._holds.job_ids:
            return
        holder, job_id = f"{self.node.machine}/{self.pid}", self.job_id

        def answer(state: Any, error: errors.QuakeGridError | None) -> None:
            if not self.is_alive or (self.is_aborted and self._world.is_deaf_to_aborts(self)):
                return
            is_late, reason = self._holds.take(job_id, error or state)
            if is_first and not (reason or is_late):  # a calculation begins when its job is held
                self._open()
            if reason:
                self._fail(reason)
            else:
                pause_s = AGAIN_AFTER_S if is_late else RENEW_EVERY_S
                again = functools.partial(self._renew, is_first=is_first and is_late)
                self._world.loop.call_later(pause_s, again)

        self._database.call(lambda: self._world.database.renew(job_id, holder, HOLD_S), answer, HOLD_S / 3)

    def _end_job(self, state: JobState, reason: str, words: str) -> None:
        """Move the job to its final state, close the session and leave."""
        if self.is_closing:
            return
        self.is_closing = True
        self._holds.job_ids.clear()

        def close(_result: Any) -> None:
            if self.rules is None:
                self._leave(words)
                return
            token, session_id = self.rules.request.resumed_token, self.rules.session_id
            self.rules.close()
            if session_id and not self.rules.failure:
                self._broker.call(
                    lambda: self._world.master.close_session(session_id, token),
                    lambda _result, _error: self._leave(words),
                    PATIENCE.close_s,
                )
            else:
                self._leave(words)

        if self.job_id:
            job_id = self.job_id
            self._insist(lambda: self._world.database.transition(job_id, state, reason), close)
        else:
            close(None)

    def _fail(self, reason: str) -> None:
        if not self.is_closing:
            self._world.promises.on_driver_failed(self, reason)
            self._end_job(JobState.FAILED, reason, f"failed: {reason}")

    # --- its session

    def _open(self) -> None:
        request = sessions_pb2.OpenSessionRequest(
            job_ids=[self.job_id] if self.job_id else [],
            user_name=self.program.user_name,
            host=self.node.machine,
            pid=self.pid,
            max_workers=self.program.max_workers,
            cores_per_worker=self.program.width,
            fingerprint={CLOCK: CLOCK_FITS},
            driver_nonce=f"nonce {self.pid}".encode(),
        )
        self.rules = StreamRules(request, PATIENCE)
        settings = dataclasses.replace(self._world.settings, state_dir=self._world.other_dir)
        face: Any = StreamFace(self.rules)
        socket: Any = self._socket
        self.client = LaneClient(settings, face, socket, PATIENCE)
        self._open_stream()

    def _open_stream(self) -> None:
        if not self.is_alive or self.rules is None or self.is_closing:
            return
        self._was_reached = False
        request = sessions_pb2.OpenSessionRequest()
        request.CopyFrom(self.rules.request)

        def answer(stream: Stream | None, error: errors.QuakeGridError | None) -> None:
            if stream is None or not self.is_alive or self.is_closing:
                if stream is not None:
                    stream.leave()
                self._on_stream_ended(error or errors.PeerUnreachableError("no broker"))
                return
            self._was_reached = True
            self._stream = stream
            stream.read(
                self._on_answer,
                lambda words: self._on_stream_ended(errors.PeerUnreachableError(words) if words else None),
            )

        self._broker.call(lambda: self._world.master.open_session(self, request), answer)

    def _on_stream_ended(self, failure: errors.QuakeGridError | None) -> None:
        if not self.is_alive or self.rules is None or self.is_closing:
            return
        follows = self.rules.lose(failure, self._world.now_s, was_reached=self._was_reached)
        if follows is Next.FAIL:
            self.rules.fail(self.rules.why_ended(failure))
            self._receive()
        elif follows is not Next.END:
            self._world.loop.call_later(PATIENCE.broker_retry_s, self._open_stream)

    def _on_answer(self, answer: sessions_pb2.OpenSessionResponse) -> None:
        if not self.is_alive or self.rules is None:
            return
        heard = self.rules.take(answer)
        match heard:
            case Heard.ADMITTED:
                self._join(answer.admitted)
            case Heard.ADMITTED_AGAIN | Heard.FAILED:
                self._wake_up()
            case Heard.ABORTED:
                self._on_aborted(self.rules.abort_reason)
            case _:
                pass

    def _on_aborted(self, reason: str) -> None:
        self.is_aborted = True
        if self._world.is_deaf_to_aborts(self):  # it hangs; its agent has to end it, or at last the kernel
            self._world.loop.call_later(HANG_GRACE_S, self._end_by_kernel, self._world.master.life)
            return
        self._world.loop.call_later(0.1, self._end_job, JobState.ABORTED, reason, "aborted")

    # --- its tasks

    def _join(self, admitted: sessions_pb2.SessionAdmitted) -> None:
        assert self.client is not None
        self.client.window.expect_workers(admitted.core_count)
        identity = lane_names.driver_name(admitted.session_id, admitted.session_token)
        port = int(admitted.lane_endpoint.rpartition(":")[2])
        self._socket.wire = Wire(self._world.network, self.node.machine, identity, port, self._on_message)
        self._world.promises.on_admitted(self)
        if self.job_id:
            job_id = self.job_id
            self._insist(
                lambda: self._world.database.transition(job_id, JobState.EXECUTING), lambda _result: None
            )
        self._world.loop.call_later(PATIENCE.hello_s, self._check_joined)

    def _check_joined(self) -> None:
        if self.is_alive and self.client is not None and not self.client.has_joined:
            self._fail("the lane does not answer")

    def _on_message(self, frames: Message) -> None:
        if self.is_alive:
            self._socket.received.append(frames)
            self._wake_up()

    def _wake_up(self) -> None:
        """Have the program take what has come, as soon as it is not busy."""
        if not (self.program.busy_s and self._has_submitted):
            self._receive()
        elif not self._is_busy:
            self._is_busy = True
            self._world.loop.call_later(self.program.busy_s, self._end_busy)

    def _end_busy(self) -> None:
        self._is_busy = False
        self._receive()

    def _receive(self) -> None:
        """Take what has come, as the program's own thread does."""
        client = self.client
        if not self.is_alive or client is None or self.is_closing:
            return
        try:
            while (outcome := client.receive_ready()) is not None:
                self._on_outcome(outcome)
            if client.has_joined and not self._has_submitted:
                self._has_submitted = True
                for number, task in enumerate(self.program.tasks, 1):
                    self._submit(client, number, task)
        except errors.QuakeGridError as exc:
            if not self.is_aborted:
                self._fail(str(exc))
            return
        if self._has_submitted and len(self.results) + len(self.failures) == len(self.program.tasks):
            self._on_all_done()
        due_s = client._retelling.due_s
        if due_s < math.inf and due_s != self._retry_s:
            self._retry_s = due_s
            self._world.loop.call_at(due_s, self._receive)

    def _submit(self, client: LaneClient, number: int, task: TaskPlan) -> None:
        is_poison = task.is_poison and self._world.is_poison(self.program.name, number)
        words = f"{number} {task.duration_s} {self.program.name.replace(' ', '_') if is_poison else 'work'}"
        kind = LaneTask(task.operation, task.weight, task.expected_s)
        assert client.submit([words.encode()], kind) == number

    def _on_outcome(self, outcome: LaneOutcome) -> None:
        self._world.promises.on_outcome(self, outcome)
        if outcome.error:
            self.failures[outcome.task_id] = outcome
        else:
            self.results[outcome.task_id] = outcome.frames[0].buffer.tobytes().decode()

    def _on_all_done(self) -> None:
        if self.failures:
            self._fail(next(iter(self.failures.values())).error)
        else:
            self._end_job(JobState.COMPLETE, "", "complete")
