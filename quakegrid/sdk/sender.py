"""The thread between an executor and its lane: packs calls into chunks, hands results to futures.

One thread around one poller. A chunk leaves when there is room for it, however small it is, so that
nothing ever waits for a timer; while all workers are busy, calls gather and chunks grow.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable
from concurrent.futures import BrokenExecutor

from quakegrid import errors
from quakegrid.sdk import chunks, parcels
from quakegrid.sdk.chunking import Chunking
from quakegrid.sdk.futures import Shared, settle
from quakegrid.sdk.parcels import Parcel, operation_of
from quakegrid.sdk.progress import OnProgress, Progress
from quakegrid.sdk.unsent import Call, UnsentCalls
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask
from quakegrid.session.session import Session

log = logging.getLogger("quakegrid.sdk")


class BrokenClusterError(errors.QuakeGridError, BrokenExecutor):
    """The executor lost its session: the broker ended it or is gone; nothing more can run."""


class Sender:
    """Owns the session of an executor; starts its thread at once.

    Args:
        session: admitted.
        worker_count: how many workers it will have.
        on_progress: called in this thread with the counts of done and submitted calls.
    """

    def __init__(self, session: Session, worker_count: int, on_progress: OnProgress | None) -> None:
        self._session, self._progress = session, Progress(on_progress)
        self._chunking = Chunking(worker_count)
        self.shared = Shared()
        self._unsent = UnsentCalls()
        self.queue, self.weighted = self._unsent.queue, self._unsent.weighted  # for any thread
        self._out: dict[int, Parcel] = {}
        self._out_call_count = 0  # counted, not summed: a thousand workers have thousands of parcels
        self._packing = self._new_parcel()
        self.is_idle = False
        self.is_stopping = False
        self.cancel_queued = False
        self.is_terminated = False
        self.failure: BrokenClusterError | None = None
        self.is_ended = False
        self.thread = threading.Thread(target=self._run, name="quakegrid-executor", daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Tell the thread that there is something to do; for any thread."""
        self.is_idle = False
        self._session.wake()

    def note_call(self) -> None:
        """A call was appended; it fails if the end came just before."""
        if self.is_ended:
            self.fail_leftovers()
        elif self.is_idle:
            self.wake()

    def stop(self, *, cancel_queued: bool = False) -> None:
        """Let the thread end when everything is done; `cancel_queued` drops calls that were not sent."""
        self.cancel_queued = self.cancel_queued or cancel_queued
        self.is_stopping = True
        self._session.wake()

    def terminate(self) -> None:
        """Let the thread end now, and with it the workers and their calls; for any thread."""
        self.is_terminated = True
        self._session.wake()

    def disown(self) -> None:
        """Refuse calls: this process was forked from the one that has the thread, and the calls of before."""
        self.failure = BrokenClusterError("this process was forked from the one that has the executor")
        self.is_ended = True

    def fail_leftovers(self) -> None:
        """End the futures of calls that came too late; for any thread, after the end."""
        failure = self.failure or RuntimeError("cannot schedule new futures after shutdown")
        self._fail([call for call in self._unsent.take_new() if call.begin()], failure)

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
        while (outcome := self._session.receive_ready()) is not None:
            self._on_outcome(outcome)
        if self.cancel_queued:
            self._unsent.drop_new()
        self._send_all()
        self._progress.tell(len(self._unsent) + self._out_call_count)
        if self.is_stopping and not self._out and not self._unsent:
            return False
        if len(self._out) >= self._chunking.window:
            self._session.wait()
        else:
            self._wait_for_calls()
        return True

    def _wait_for_calls(self) -> None:
        self.is_idle = True
        if not self.queue and not self.weighted:  # else it came before we were idle, and nobody wakes us
            self._session.wait()
        self.is_idle = False

    def _is_cut_short(self) -> bool:
        """Whether the thread must end though there is something to do, which `failure` then tells."""
        if self.is_terminated:
            self.failure = BrokenClusterError("the executor's workers were terminated")
        elif self._session.abort_reason:  # whatever the program makes of the interrupt
            self.failure = BrokenClusterError(f"the executor's session ended: {self._session.abort_reason}")
        return self.failure is not None

    def _send_all(self) -> None:
        """Send what there is room for: weighted calls first, then suspects, then all others."""
        unsent, window = self._unsent, self._chunking.window
        unsent.sort_weighted()
        while len(self._out) < window:
            if (heaviest := unsent.take_heaviest()) is not None:
                weight, call = heaviest
                if call.begin():
                    self._send_single(call, weight)
            elif unsent.suspects:
                self._send_single(unsent.suspects.popleft())
            elif unsent.again or unsent.queue:
                parcel = self._new_parcel()
                parcel.fill(unsent, self._chunking)
                self._send(parcel)
            else:
                return

    def _send_single(self, call: Call, weight: float = 1.0) -> None:
        parcel = self._new_parcel()
        parcel.add(call, operation_of(call.function))
        self._send(parcel, weight, may_wait=False)

    def _new_parcel(self) -> Parcel:
        self._packing = Parcel(self._session.blobs, self._refuse)
        return self._packing

    def _refuse(self, call: Call, error: errors.PayloadError) -> None:
        """End the future of a call that cannot be pickled."""
        self._progress.done_count += 1
        self._fail([call], error)

    def _send(self, parcel: Parcel, weight: float = 1.0, *, may_wait: bool = True) -> None:
        if not parcel.calls:
            return
        names = parcel.operations
        task = LaneTask(
            operation=names[0],
            weight=weight,
            expected_s=parcel.cost_s if may_wait and all(map(self._chunking.is_known, names)) else math.inf,
            max_attempts=1 if len(parcel.calls) > 1 else 0,
        )
        task_id = self._session.submit(parcel.frames(), task, parcel.digests)
        parcel.forget_arguments()
        self._out[task_id] = parcel
        self._out_call_count += len(parcel.calls)
        self._new_parcel()

    def _on_outcome(self, outcome: LaneOutcome) -> None:
        parcel = self._out[outcome.task_id]
        if outcome.error:
            self._on_trouble(parcel, outcome)
            self._forget(outcome.task_id)
            return
        self._chunking.see_worker(outcome.worker_id)
        results, buffers = chunks.unpack(outcome.frames)
        count = len(results.values)
        self._chunking.learn_chunk(parcel.operations, parcel.chunk.operations[:count], results.spent_s)
        self._progress.done_count += count
        settle(self.shared, parcels.opened(parcel, results, buffers))
        if count < len(parcel.calls):
            self._unsent.again.extendleft(reversed(parcel.calls[count:]))
        self._forget(outcome.task_id)  # last: whatever happened until now, its futures end with the session

    def _forget(self, task_id: int) -> None:
        self._out_call_count -= len(self._out.pop(task_id).calls)

    def _on_trouble(self, parcel: Parcel, outcome: LaneOutcome) -> None:
        """A chunk that ended its worker, or could not run: its calls are tried one by one."""
        if len(parcel.calls) > 1:
            self._unsent.suspects.extend(parcel.calls)
            return
        self._progress.done_count += 1
        error = errors.TaskKilledError if outcome.reasons else errors.TaskError
        self._fail(parcel.calls, error(outcome.error))

    def _fail(self, calls: Iterable[Call], exception: Exception) -> None:
        settle(self.shared, [(call, None, exception) for call in calls])

    # --- the end

    def _end(self) -> None:
        begun_parcels = [*self._out.values(), self._packing]
        begun = [*self._unsent.take_begun(), *(call for parcel in begun_parcels for call in parcel.calls)]
        self._out.clear()
        # Before the queues are emptied for the last time: who submits later sees it, and empties them again.
        self.is_ended = True
        try:
            failure = self.failure or BrokenClusterError("the executor has ended")
            self._fail([call for call in begun if not call.done()], failure)
            self.fail_leftovers()
        finally:
            self._session.close()
