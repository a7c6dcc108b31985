"""The thread between an executor and its lane, from the first call to the end.

One thread around one poller. A chunk leaves when there is room for it, however small it is, so that
nothing ever waits for a timer; while all workers are busy, calls gather and chunks grow.
"""

from __future__ import annotations

import enum
import logging
import math
import threading
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TypeVar

from quakegrid import errors
from quakegrid.sdk.chunk_traffic import ChunkTraffic
from quakegrid.sdk.futures import CallFuture, Keeper, Shared
from quakegrid.sdk.progress import OnProgress, Progress
from quakegrid.sdk.unsent import Call, PendingLimit, UnsentCalls, WaitingRoom
from quakegrid.session.session import Session

T = TypeVar("T")
log = logging.getLogger("quakegrid.sdk")
# Cancelled calls in the queue, beyond which they are taken out though nobody waits for room.
MANY_CANCELLED = 10_000


class BrokenClusterError(errors.QuakeGridError, BrokenExecutor):
    """The executor lost its session: the broker ended it or is gone; nothing more can run."""


class SenderState(enum.Enum):
    """What becomes of the calls of an executor."""

    OPEN = enum.auto()
    STOPPING = enum.auto()  # it takes no more, and ends when all are done
    DROPPING = enum.auto()  # as STOPPING, without those that were not sent
    TERMINATING = enum.auto()  # it ends now
    ENDED = enum.auto()


# Any thread may ask for a move, and several may at the same time: one that is not here changes nothing.
MOVES: dict[SenderState, frozenset[SenderState]] = {
    SenderState.OPEN: frozenset(SenderState) - {SenderState.OPEN},
    SenderState.STOPPING: frozenset({SenderState.DROPPING, SenderState.TERMINATING, SenderState.ENDED}),
    SenderState.DROPPING: frozenset({SenderState.TERMINATING, SenderState.ENDED}),
    SenderState.TERMINATING: frozenset({SenderState.ENDED}),
    SenderState.ENDED: frozenset(),
}


class SenderThread(threading.Thread):
    """The thread of an executor, in which its callbacks run."""


class Sender:
    """Owns the session of an executor; starts its thread at once.

    Args:
        session: admitted.
        worker_count: how many workers it will have.
        on_progress: called in this thread with the counts of done and submitted calls.
        max_pending: calls without a result, beyond which `enter` waits; 0 for no limit.
        keeper: gets the results of calls, and is closed at the end.
    """

    def __init__(
        self,
        session: Session,
        worker_count: int,
        on_progress: OnProgress | None,
        max_pending: int = 0,
        keeper: Keeper | None = None,
    ) -> None:
        self._session, self._progress = session, Progress(on_progress)
        self.shared, self.unsent = Shared(session.wake, keeper), UnsentCalls()
        self.queue, self.weighted = self.unsent.queue, self.unsent.weighted  # for any thread
        limit = PendingLimit(max_pending)
        self._room = WaitingRoom(self.shared, self.unsent, limit)
        self._traffic = ChunkTraffic(session, worker_count, self.unsent, self.shared, self._progress, limit)
        self.is_idle = False
        self.state = SenderState.OPEN
        self._lock = threading.RLock()  # of moves; the handler of a signal may come in the middle of one
        self.failure: BrokenClusterError | None = None
        self.thread = SenderThread(target=self._run, name="quakegrid-executor", daemon=True)
        self.thread.start()

    @property
    def is_ended(self) -> bool:
        """Whether there is no thread that would take calls."""
        return self.state is SenderState.ENDED

    def wake(self) -> None:
        """Tell the thread that there is something to do; for any thread."""
        self.is_idle = False
        self._session.wake()

    def offer(self, weight: float | None, call: CallFuture[T]) -> CallFuture[T]:
        """Send a call, one with a weight alone, unless it is answered without; returns it. For any thread.

        Raises:
            RuntimeError: no call is taken any more.
        """
        if self.shared.keeper is None:
            self._send(weight, call)
            return call
        if self.state is not SenderState.OPEN:
            self.enter()
        is_answered = self.shared.keeper.submit(call, partial(self._send, weight))
        if is_answered and self._progress.is_wanted:
            with self.shared.lock:
                self._progress.answered_count += 1
            if self.is_idle:
                self.wake()
        return call

    def _send(self, weight: float | None, call: Call) -> None:
        self.enter()
        self.look_at(call)
        if weight is None:
            self.queue.append(call)
        else:
            self.weighted.append((weight, call))
        if self.is_ended:  # just now
            self.fail_leftovers()
        elif self.is_idle:
            self.wake()

    def enter(self, end_s: float = math.inf) -> bool:
        """Wait until one more call may be submitted; False if none may at `end_s`.

        It never waits in the thread of an executor: callbacks run there, and nobody else would make room.

        Raises:
            RuntimeError: no call is taken any more.
        """
        is_room = True
        if self.unsent.is_full and not isinstance(threading.current_thread(), SenderThread):
            is_room = self._room.wait(lambda: self.state is not SenderState.OPEN, end_s)
        if self.state is not SenderState.OPEN:
            raise self.failure or RuntimeError("cannot schedule new futures after shutdown")
        return is_room

    def look_at(self, call: Call) -> None:
        """Count the arguments of a call that are large; for any thread, before it is appended."""
        with self.shared.lock:
            call.large = self.shared.large.add((*call.args, *(call.kwargs or {}).values()))
            if call.large:
                self.unsent.note_large(self.shared.large.byte_count)

    def stop(self, *, cancel_queued: bool = False) -> None:
        """Let the thread end when everything is done; `cancel_queued` drops calls that were not sent."""
        self._leave(SenderState.DROPPING if cancel_queued else SenderState.STOPPING)

    def terminate(self) -> None:
        """Let the thread end now, and with it the workers and their calls; for any thread."""
        self._leave(SenderState.TERMINATING)

    def disown(self) -> None:
        """Refuse calls: this process was forked from the one that has the thread, and the calls of before."""
        self._lock = threading.RLock()  # a thread that is not here may have the other one
        self.failure = BrokenClusterError("this process was forked from the one that has the executor")
        self._move(SenderState.ENDED)

    def fail_leftovers(self) -> None:
        """End the futures of calls that came too late; for any thread, after the end."""
        failure = self.failure or RuntimeError("cannot schedule new futures after shutdown")
        self._traffic.fail([call for call in self.unsent.take_new() if call.begin()], failure)

    def _leave(self, state: SenderState) -> None:
        """Take no more calls; those who wait for room hear of it, but not in a fork, where nobody waits."""
        if self._move(state):
            self._room.wake()
        self._session.wake()

    def _move(self, state: SenderState) -> bool:
        """Change the state if that is allowed; returns whether it was."""
        with self._lock:
            is_allowed = state in MOVES[self.state]
            if is_allowed:
                self.state = state
            return is_allowed

    # --- the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except errors.QuakeGridError as exc:
            self.failure = BrokenClusterError(f"the executor's session ended: {exc}")
        except BaseException as exc:
            self.failure = BrokenClusterError(f"the executor's thread failed: {exc!r}")
            log.exception("sender_failed")
        finally:
            self._end()

    def _turn(self) -> bool:
        """Receive, send, wait; False at the end."""
        if self._is_cut_short():
            return False
        self._traffic.receive_all()
        if self.state is SenderState.DROPPING:
            self.unsent.drop_new()
        self._traffic.send_all()
        self._progress.tell(self.unsent.pending_count)
        self._tell_room()
        if self.state is not SenderState.OPEN and self._traffic.is_over:
            return False
        if self._traffic.has_room:
            self._wait_for_calls()
        else:
            self._session.wait()
        return True

    def _tell_room(self) -> None:
        """Say how many calls may be submitted; those that were cancelled make room if somebody waits."""
        shared = self.shared
        if shared.cancelled_count > (0 if shared.waiter_count else MANY_CANCELLED):
            shared.cancelled_count = 0
            self.unsent.sweep()
        self._room.update(self._traffic.out_bytes, 2 * self._traffic.window)

    def _wait_for_calls(self) -> None:
        self.is_idle = True
        if not self.queue and not self.weighted:  # else it came before we were idle, and nobody wakes us
            self._session.wait()
        self.is_idle = False

    def _is_cut_short(self) -> bool:
        """Whether the thread must end though there is something to do, which `failure` then tells."""
        if self.state is SenderState.TERMINATING:
            self.failure = BrokenClusterError("the executor's workers were terminated")
        elif self._session.abort_reason:  # whatever the program makes of the interrupt
            self.failure = BrokenClusterError(f"the executor's session ended: {self._session.abort_reason}")
        return self.failure is not None

    # --- the end

    def _end(self) -> None:
        begun = self._traffic.begun_calls()
        # Before the queues are emptied for the last time: who submits later sees it, and empties them again.
        if self._move(SenderState.ENDED):
            self._room.wake()
        try:
            failure = self.failure or BrokenClusterError("the executor has ended")
            self._traffic.fail(begun, failure)
            self.fail_leftovers()
        finally:
            self._session.close()
            if self.shared.keeper is not None:
                self.shared.keeper.close()
