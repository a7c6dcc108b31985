"""The chunks of an executor: packs calls, sends them, and settles futures with what comes back.

Belongs to the sender's thread. `chunking` says how many calls travel together, `unsent` has those that wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from quakegrid import errors
from quakegrid.sdk import chunks, parcels
from quakegrid.sdk.chunking import Chunking
from quakegrid.sdk.futures import Shared, settle
from quakegrid.sdk.parcels import Parcel, operation_of
from quakegrid.sdk.progress import Progress
from quakegrid.sdk.unsent import Call, PendingLimit, UnsentCalls
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask
from quakegrid.session.session import Session


class ChunkTraffic:
    """What is on its way to workers and back.

    Args:
        session: admitted.
        worker_count: how many workers it will have.
        unsent: the calls that wait.
        shared: of all futures.
        progress: counts what is done.
        limit: learns how large calls are.
    """

    def __init__(
        self,
        session: Session,
        worker_count: int,
        unsent: UnsentCalls,
        shared: Shared,
        progress: Progress,
        limit: PendingLimit,
    ) -> None:
        self._session, self._unsent, self._shared = session, unsent, shared
        self._progress, self._limit = progress, limit
        self._chunking = Chunking(worker_count)
        self._out: dict[int, Parcel] = {}
        self._packing = self._new_parcel()
        self.out_bytes = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is out and nothing waits."""
        return not self._out and not self._unsent

    @property
    def has_room(self) -> bool:
        """Whether one more chunk may be out."""
        return self._chunking.has_room(len(self._out), self.out_bytes)

    @property
    def window(self) -> int:
        """How many chunks may be out."""
        return self._chunking.window

    def receive_all(self) -> None:
        """Take every outcome that is here."""
        while (outcome := self._session.receive_ready()) is not None:
            self._on_outcome(outcome)

    def begun_calls(self) -> list[Call]:
        """At the end: the calls that began and have no result; they are let go of."""
        begun_parcels = [*self._out.values(), self._packing]
        begun = [*self._unsent.take_begun(), *(call for parcel in begun_parcels for call in parcel.calls)]
        self._out.clear()
        return [call for call in begun if not call.done()]

    def fail(self, calls: Iterable[Call], exception: Exception) -> None:
        """End futures; for any thread."""
        settle(self._shared, [(call, None, exception) for call in calls])

    def send_all(self) -> None:
        """Send what there is room for: weighted calls first, then suspects, then all others."""
        unsent, chunking = self._unsent, self._chunking
        unsent.sort_weighted()
        while self.has_room:
            if (heaviest := unsent.take_heaviest()) is not None:
                weight, call = heaviest
                if call.begin():
                    self._send_single(call, weight)
                else:
                    unsent.done(1)
            elif unsent.suspects:
                self._send_single(unsent.suspects.popleft())
            elif unsent.again or unsent.queue:
                parcel = self._new_parcel()
                parcel.fill(unsent, chunking)
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
        self._count_done(1)
        self.fail([call], error)

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
        self.out_bytes += parcel.byte_count
        self._limit.learn(len(parcel.calls), parcel.byte_count)
        self._new_parcel()

    def _on_outcome(self, outcome: LaneOutcome) -> None:
        parcel = self._out[outcome.task_id]
        if outcome.error:
            self._on_trouble(parcel, outcome)
        else:
            self._on_results(parcel, outcome)
        del self._out[outcome.task_id]  # last: whatever happened until now, its futures end with the session
        self.out_bytes -= parcel.byte_count

    def _on_results(self, parcel: Parcel, outcome: LaneOutcome) -> None:
        self._chunking.see_worker(outcome.worker_id)
        results, buffers = chunks.unpack(outcome.frames)
        count = len(results.values)
        self._chunking.learn_chunk(parcel.operations, parcel.chunk.operations[:count], results.spent_s)
        self._count_done(count)
        settle(self._shared, parcels.opened(parcel, results, buffers, self._shared.keeper))
        if count < len(parcel.calls):
            self._unsent.again.extendleft(reversed(parcel.calls[count:]))

    def _count_done(self, count: int) -> None:
        self._progress.done_count += count
        self._unsent.done(count)

    def _on_trouble(self, parcel: Parcel, outcome: LaneOutcome) -> None:
        """A chunk that ended its worker, or could not run: its calls are tried one by one."""
        if len(parcel.calls) > 1:
            self._unsent.suspects.extend(parcel.calls)
            return
        self._count_done(1)
        error = errors.TaskKilledError if outcome.reasons else errors.TaskError
        self.fail(parcel.calls, error(outcome.error))
