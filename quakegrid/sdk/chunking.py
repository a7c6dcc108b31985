"""How many calls travel together. Pure: durations in, sizes out.

Tiny calls travel by the hundred, long ones one by one. How long a kind of call takes is learnt from the
workers' measurements; until then it counts as long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from quakegrid.jobs.task_durations import TaskDurations

# Work in a chunk: long beside the cost of sending it (some 0.3 ms), short beside a tail of a second.
TARGET_S = 0.025
# A worker gives back the calls that it has not begun by then: the estimate was wrong.
BUDGET_S = 4 * TARGET_S
# Pickling and bookkeeping of one call, which the workers do not measure.
CALL_OVERHEAD_S = 5e-6
MAX_CALLS = 2_000
MAX_BYTES = 1 << 20
# Chunks that are out may have so many bytes; more if there is not one for each worker.
OUT_BYTES = 256 << 20
# Chunks for each worker: one runs, one waits at the worker, one waits at the lane.
CHUNKS_PER_WORKER = 3


class Chunking:
    """Sizes of the chunks of one executor.

    Args:
        worker_count: how many workers there should be, >= 0.
    """

    def __init__(self, worker_count: int) -> None:
        self._worker_count = max(1, worker_count)
        self._worker_ids: set[str] = set()
        self._costs = TaskDurations()

    @property
    def window(self) -> int:
        """How many chunks may be out at once; the rest can still be cancelled."""
        return CHUNKS_PER_WORKER * self._worker_count

    def has_room(self, chunk_count: int, byte_count: int) -> bool:
        """Whether one more chunk may be out.

        Args:
            chunk_count: those that are out.
            byte_count: of their pickled calls.
        """
        return chunk_count < (self.window if byte_count < OUT_BYTES else self._worker_count)

    def call_limit(self, queued_count: int) -> int:
        """Most calls of the next chunk, so that all workers end at about the same time.

        Args:
            queued_count: calls that wait to be sent.
        """
        return max(1, min(MAX_CALLS, queued_count // (2 * self._worker_count)))

    def cost_s(self, operation: str) -> float:
        """How long a call is expected to take; as long as a whole chunk when nothing is known."""
        return self._costs.known_s.get(operation, TARGET_S)

    def is_known(self, operation: str) -> bool:
        """Whether a call of this kind was measured."""
        return operation in self._costs.known_s

    def learn(self, operation: str, duration_s: float, call_count: int) -> None:
        """Take a measurement.

        Args:
            operation: kind of the calls.
            duration_s: of all of them together.
            call_count: how many there were, >= 1.
        """
        self._costs.learn(operation, duration_s / call_count + CALL_OVERHEAD_S)

    def learn_chunk(
        self, operations: Sequence[str], numbers: Sequence[int], spent_s: Sequence[float]
    ) -> None:
        """Take the measurements of a chunk.

        Args:
            operations: kinds of its calls.
            numbers: the place in `operations` of each call that was measured.
            spent_s: of all calls of each kind together.
        """
        if len(spent_s) == 1:
            self.learn(operations[0], spent_s[0], len(numbers))
            return
        for number, call_count in Counter(numbers).items():
            self.learn(operations[number], spent_s[number], call_count)

    def see_worker(self, worker_id: str) -> None:
        """Count the workers that answer: there may be more than there were at the start."""
        self._worker_ids.add(worker_id)
        self._worker_count = max(self._worker_count, len(self._worker_ids))
