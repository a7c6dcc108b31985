"""Which tasks of a driver are on its lane, and which wait in the driver. Pure.

A lane has enough of a session's tasks to keep all workers busy, and no more: its memory does not grow with
what a program submits. The other tasks wait in the driver, which keeps every task until its outcome comes
anyway. Each outcome makes room for the heaviest of them, so that the lane still has the heaviest first.
"""

from __future__ import annotations

import heapq

from quakegrid.errors import IllegalMoveError

# Tasks on the lane at once, and more for each worker. A lane hands out some 25,000 tasks a second. A place
# that becomes free is filled again after a fraction of a second, when the driver has taken the outcome.
TASKS = 20_000
TASKS_PER_WORKER = 2
# However many workers there are; half of what a lane takes.
MAX_TASKS = 250_000
# Payloads on the lane at once. They do not count until each worker has had some tasks, whatever their size.
BYTES = 256 << 20
FEW_TASKS = 1_000
# Places in the order of what waits whose tasks were cancelled, when they are more than half: it is made anew.
_MAX_LEFT = 1_000


class TaskWindow:
    """The tasks of one session that have no outcome."""

    def __init__(self) -> None:
        self._worker_count = 0
        self._worker_ids: set[str] = set()
        self._sent: dict[int, int] = {}  # bytes of each task on the lane
        self._order: list[tuple[float, int]] = []  # a heap of what waits, with some that was cancelled
        self._waiting: set[int] = set()
        self.sent_bytes = 0

    @property
    def sent_count(self) -> int:
        """Tasks on the lane."""
        return len(self._sent)

    @property
    def waiting_count(self) -> int:
        """Tasks that wait in the driver."""
        return len(self._waiting)

    @property
    def is_open(self) -> bool:
        """Whether one more task may be sent."""
        extra = TASKS_PER_WORKER * self._worker_count
        count = len(self._sent)
        if self.sent_bytes >= BYTES:
            return count < min(FEW_TASKS + extra, MAX_TASKS)
        return count < min(TASKS + extra, MAX_TASKS)

    def expect_workers(self, count: int) -> None:
        """There may be so many workers."""
        self._worker_count = max(self._worker_count, count)

    def see_worker(self, worker_id: str) -> None:
        """Count a worker that answers, if it has a name: there may be more than expected."""
        if worker_id and len(self._worker_ids) < MAX_TASKS:
            self._worker_ids.add(worker_id)
            self._worker_count = max(self._worker_count, len(self._worker_ids))

    def send(self, task_id: int, byte_count: int) -> None:
        """A task is being sent, with so many bytes of payload."""
        self._sent[task_id] = byte_count
        self.sent_bytes += byte_count

    def wait(self, task_id: int, weight: float) -> None:
        """A task waits until `next` gives it."""
        self._waiting.add(task_id)
        heapq.heappush(self._order, (-weight, task_id))

    def next(self) -> int | None:
        """Take out the heaviest waiting task, of equal ones the first, if it may go; call `send` then."""
        while self._waiting and self.is_open:
            _, task_id = heapq.heappop(self._order)
            if task_id in self._waiting:
                self._waiting.discard(task_id)
                return task_id
        return None

    def end(self, task_id: int) -> None:
        """A task has its outcome, or was cancelled."""
        byte_count = self._sent.pop(task_id, None)
        if byte_count is not None:
            self.sent_bytes -= byte_count
            return
        self._waiting.discard(task_id)
        if len(self._order) > 2 * len(self._waiting) + _MAX_LEFT:
            self._order = [entry for entry in self._order if entry[1] in self._waiting]
            heapq.heapify(self._order)

    def check(self) -> None:
        """Raise `IllegalMoveError` unless every invariant holds."""
        if self.sent_bytes != sum(self._sent.values()):
            raise IllegalMoveError(f"{self.sent_bytes} bytes on the lane are not those of {self._sent}")
        if self._sent.keys() & self._waiting or self._waiting - {task_id for _, task_id in self._order}:
            raise IllegalMoveError(f"{self._waiting} wait, {self._sent} are on the lane: {self._order}")
