"""The attempts and workers of one session, as their records tell them.

Value types, and how they are read from blocks. Instants are seconds since 1970 by the lane's clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from quakegrid.api.v1 import task_records_pb2


class AttemptEnd(Enum):
    """How an attempt at a task ended."""

    DONE = "done"
    LOST = "lost"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a task; see `TaskRecordBlock` for what each field is."""

    task_id: int
    attempt: int
    end: AttemptEnd
    operation: str
    worker_id: str
    end_s: float
    queued_s: float = 0.0
    held_s: float = 0.0
    duration_s: float = 0.0
    load_s: float = 0.0
    in_bytes: int = 0
    out_bytes: int = 0
    peak_memory_bytes: int = 0

    @property
    def sent_s(self) -> float:
        """When it was sent to its worker."""
        return self.end_s - self.held_s

    @property
    def submitted_s(self) -> float:
        """When its driver submitted the task."""
        return self.sent_s - self.queued_s


@dataclass(slots=True)
class WorkerLife:
    """A worker of the session; `left_s` is None while it lives."""

    worker_id: str
    node: str
    joined_s: float
    left_s: float | None = None
    reason: str = ""
    is_clean: bool = True


@dataclass(slots=True)
class TaskHistory:
    """All that is recorded of one session; `closed_s` is None while it is open."""

    session_id: int
    job_ids: tuple[int, ...] = ()
    user_name: str = ""
    opened_s: float = 0.0
    closed_s: float | None = None
    attempts: list[Attempt] = field(default_factory=list)
    workers: dict[str, WorkerLife] = field(default_factory=dict)
    omitted_count: int = 0


_ENDS = {
    task_records_pb2.ATTEMPT_END_DONE: AttemptEnd.DONE,
    task_records_pb2.ATTEMPT_END_LOST: AttemptEnd.LOST,
    task_records_pb2.ATTEMPT_END_DROPPED: AttemptEnd.DROPPED,
}


def read_history(blocks: Iterable[task_records_pb2.TaskRecordBlock]) -> TaskHistory:
    """Put the blocks of a session together."""
    history = TaskHistory(0)
    for block in blocks:
        if block.HasField("session") and not history.session_id:
            session = block.session
            history.session_id, history.job_ids = session.session_id, tuple(session.job_ids)
            history.user_name, history.opened_s = session.user_name, session.opened_time_s
        for record in block.workers:
            _read_worker(history.workers, record)
        history.attempts += _read_attempts(block)
        history.omitted_count += block.omitted_count
        history.closed_s = block.closed_time_s or None
    return history


def _read_worker(workers: dict[str, WorkerLife], record: task_records_pb2.WorkerRecord) -> None:
    life = workers.get(record.worker_id)
    if record.joined_time_s and life is None:
        workers[record.worker_id] = WorkerLife(record.worker_id, record.node, record.joined_time_s)
    elif record.left_time_s and life is not None and life.left_s is None:
        life.left_s, life.reason, life.is_clean = record.left_time_s, record.reason, record.is_clean


def _read_attempts(block: task_records_pb2.TaskRecordBlock) -> Iterable[Attempt]:
    operations, workers = block.operations, block.worker_ids
    columns = zip(
        block.task_ids, block.attempts, block.ends, block.operation_numbers, block.worker_numbers,
        block.end_times_s, block.queued_s, block.held_s, block.duration_s, block.load_s,
        block.in_bytes, block.out_bytes, block.peak_memory_bytes,
        strict=True,
    )  # fmt: skip
    for task_id, attempt, end, operation, worker, *rest in columns:
        yield Attempt(task_id, attempt, _ENDS[end], operations[operation], workers[worker], *rest)
