"""What a lane writes down of one session's tasks: an entry for each attempt that ended, and its workers.

On the way of a task this costs a tuple; columns are made and written when the lane reports its counters,
with one write. A disk that takes nothing ends the records, and nothing else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quakegrid.api.v1 import task_records_pb2
from quakegrid.reports import task_history_files
from quakegrid.services.lane.tasks.events import (
    Action,
    DeliverOutcome,
    Lease,
    OutcomeArrived,
    Peer,
    Refuse,
    TaskId,
    TaskReturned,
    WorkerEvent,
    WorkerId,
    WorkerJoined,
)
from quakegrid.wire.v1 import lane_pb2

log = logging.getLogger("quakegrid.lane")
DONE, LOST = task_records_pb2.ATTEMPT_END_DONE, task_records_pb2.ATTEMPT_END_LOST
DROPPED = task_records_pb2.ATTEMPT_END_DROPPED

# An attempt that ended, with a place for each column of a block, in their order. A plain tuple: one with
# names costs as much as all the rest.
_Entry = tuple[Any, ...]


class Submitted(NamedTuple):
    """What the lane remembers of a submission beside its payload; shared by tasks that came together."""

    operation: str
    queued_s: float
    blobs: Sequence[lane_pb2.BlobRef]


class Usage(NamedTuple):
    """What a worker measured of a task, beside its duration."""

    load_s: float
    peak_memory_bytes: int


class _Sent(NamedTuple):
    """A task at a worker."""

    task_id: TaskId
    attempt: int
    worker_id: WorkerId
    sent_s: float
    submitted: Submitted
    in_bytes: int


_UNKNOWN = Submitted("", 0.0, ())
_NO_USAGE = Usage(0.0, 0)


class TaskRecorder:
    """Writes the records of one session; all instants given are monotonic.

    Args:
        opening: the broker's order that opened the session.
        directory: where files of records are.
    """

    def __init__(self, opening: lane_pb2.OpenLaneSession, directory: Path) -> None:
        # Once: the clock may be set while the session runs, and records tell how long things took.
        self._epoch_s = time.time() - time.monotonic()
        self._session = task_records_pb2.RecordedSession(
            session_id=opening.session_id,
            job_ids=opening.job_ids,
            user_name=opening.user_name,
            opened_time_s=self._epoch_s + time.monotonic(),
        )
        self._path = directory / str(opening.session_id)
        self._fd = -1
        self._has_failed = False
        self._byte_count = 0
        self._entries: list[_Entry] = []
        self._workers: list[task_records_pb2.WorkerRecord] = []
        self._names: dict[Peer, WorkerId] = {}
        self._sent: dict[TaskId, _Sent] = {}
        self._last = _UNKNOWN
        self._omitted_count = 0

    def submitted(self, operation: str, blobs: Sequence[lane_pb2.BlobRef], now_s: float) -> Submitted:
        """What to remember of a task that came now; tasks of a turn share it, but those with blobs."""
        last = self._last
        if blobs or last.blobs or now_s != last.queued_s or operation != last.operation:
            last = self._last = Submitted(operation, now_s, tuple(blobs))
        return last

    def on_worker_event(
        self,
        event: WorkerEvent,
        actions: Sequence[Action],
        peer: Peer,
        out_bytes: int,
        now_s: float,
    ) -> None:
        """A worker told something; `actions` are what the scheduler made of it."""
        if type(event) is OutcomeArrived:
            self.on_outcome(event, out_bytes, now_s, is_delivered=DeliverOutcome in map(type, actions))
        elif isinstance(event, TaskReturned):
            self.on_returned(event.lease)
        elif isinstance(event, WorkerJoined) and Refuse not in map(type, actions):
            self.on_joined(event, peer, now_s)

    def on_joined(self, event: WorkerJoined, peer: Peer, now_s: float) -> None:
        """A worker said what it has."""
        if peer not in self._names:
            self._names[peer] = event.worker_id
            record = task_records_pb2.WorkerRecord(
                worker_id=event.worker_id, node=event.node, joined_time_s=self._epoch_s + now_s
            )
            self._workers.append(record)

    def forget_worker(self, peer: Peer) -> None:
        """A worker has ended; its record stays."""
        self._names.pop(peer, None)

    def on_sent(self, peer: Peer, lease: Lease, submitted: Submitted, in_bytes: int, now_s: float) -> None:
        """A task goes to a worker."""
        self._sent[lease.task_id] = _Sent(
            lease.task_id, lease.attempt, self._names[peer], now_s, submitted, in_bytes
        )

    def on_outcome(self, event: OutcomeArrived, out_bytes: int, now_s: float, *, is_delivered: bool) -> None:
        """An attempt came to its end."""
        lease = event.lease
        sent = self._sent.get(lease.task_id)
        if sent is None or sent.attempt != lease.attempt or sent.worker_id != event.worker_id:
            # Sent by a lane before us, or it was lost for us.
            sent = _Sent(lease.task_id, lease.attempt, event.worker_id, now_s - event.duration_s, _UNKNOWN, 0)
        else:
            del self._sent[lease.task_id]
        usage = event.usage if isinstance(event.usage, Usage) else _NO_USAGE
        end = DONE if is_delivered else DROPPED
        self._add(sent, end, now_s, event.duration_s, usage, out_bytes)

    def on_returned(self, lease: Lease) -> None:
        """A worker had not begun a task and gave it back."""
        sent = self._sent.get(lease.task_id)
        if sent is not None and sent.attempt == lease.attempt:
            del self._sent[lease.task_id]

    def on_lost(self, worker_id: WorkerId, reason: str, now_s: float, *, is_clean: bool) -> None:
        """A worker ended, with all that it had."""
        for task_id in [task_id for task_id, sent in self._sent.items() if sent.worker_id == worker_id]:
            self._add(self._sent.pop(task_id), LOST, now_s, 0.0, _NO_USAGE, 0)
        record = task_records_pb2.WorkerRecord(
            worker_id=worker_id, left_time_s=self._epoch_s + now_s, reason=reason, is_clean=is_clean
        )
        self._workers.append(record)

    def flush(self) -> None:
        """Write what came since the last time."""
        if self._entries or self._workers or self._omitted_count:
            self._write(self._take_block())

    def close(self) -> None:
        """Write the rest: what workers still have is lost. A session without anything leaves no file."""
        now_s = time.monotonic()
        for sent in self._sent.values():
            self._add(sent, LOST, now_s, 0.0, _NO_USAGE, 0)
        block = self._take_block()
        if self._fd >= 0 or block.task_ids or block.workers:
            block.closed_time_s = self._epoch_s + now_s
            self._write(block)
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # it is closed all the same
                os.close(self._fd)

    def _add(
        self,
        sent: _Sent,
        end: task_records_pb2.AttemptEnd.ValueType,
        now_s: float,
        duration_s: float,
        usage: Usage,
        out_bytes: int,
    ) -> None:
        if self._has_failed or self._byte_count >= task_history_files.MAX_FILE_BYTES:
            self._omitted_count += 1
            return
        task_id, attempt, worker_id, sent_s, submitted, in_bytes = sent
        self._entries.append(
            (
                task_id,
                attempt,
                end,
                submitted.operation,
                worker_id,
                self._epoch_s + now_s,
                sent_s - submitted.queued_s if submitted is not _UNKNOWN else 0.0,
                now_s - sent_s,
                duration_s,
                usage.load_s,
                in_bytes,
                out_bytes,
                usage.peak_memory_bytes,
            )
        )

    def _take_block(self) -> task_records_pb2.TaskRecordBlock:
        block = task_records_pb2.TaskRecordBlock(workers=self._workers, omitted_count=self._omitted_count)
        if self._entries:
            columns = list(zip(*self._entries, strict=True))
            operations, workers = list(dict.fromkeys(columns[3])), list(dict.fromkeys(columns[4]))
            block.operations.extend(operations)
            block.worker_ids.extend(workers)
            columns[3] = _numbers(columns[3], operations)
            columns[4] = _numbers(columns[4], workers)
            targets: tuple[Any, ...] = (
                block.task_ids, block.attempts, block.ends, block.operation_numbers, block.worker_numbers,
                block.end_times_s, block.queued_s, block.held_s, block.duration_s, block.load_s,
                block.in_bytes, block.out_bytes, block.peak_memory_bytes,
            )  # fmt: skip
            for target, column in zip(targets, columns, strict=True):
                target.extend(column)
        self._entries, self._workers, self._omitted_count = [], [], 0
        return block

    def _write(self, block: task_records_pb2.TaskRecordBlock) -> None:
        if self._has_failed:
            return
        try:
            if self._fd < 0:
                block.session.CopyFrom(self._session)
                self._open()
            data = task_history_files.frame(block)
            if os.write(self._fd, data) < len(data):
                raise OSError("it is full")  # noqa: TRY301 - the same end as when it says so
            self._byte_count += len(data)
        except OSError as exc:
            self._has_failed = True
            log.warning("records_end session=%d path=%s reason=%s", self._session.session_id, self._path, exc)

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        task_history_files.make_room(self._path.parent)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._byte_count = os.fstat(self._fd).st_size


def _numbers(names: Sequence[str], table: Sequence[str]) -> tuple[int, ...]:
    places = {name: place for place, name in enumerate(table)}
    return tuple([places[name] for name in names])
