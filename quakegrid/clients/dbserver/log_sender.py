"""Sends log lines to the dbserver, while the caller does not wait for it.

Lines are buffered up to a limit and sent in batches, several at once. When the dbserver does not answer, each
batch is sent again with its request id, so that no line is stored twice. Beyond the limit the least important
lines are left out, and a line says how many.
"""

from __future__ import annotations

import dataclasses
import datetime
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from quakegrid import errors
from quakegrid.api.v1 import logs_pb2
from quakegrid.clients import connection, retries
from quakegrid.clients.backoff import Backoff
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.job_messages import encode_batch
from quakegrid.clients.dbserver.logs import MAX_BATCH_LINES
from quakegrid.jobs import texts
from quakegrid.jobs.values import LogLine

# With lines of the usual length these are some megabytes.
MAX_BUFFERED_LINES = 20_000
MAX_BATCH_LENGTH = 1 << 20
# Characters of a batch, within the limits of the dbserver.
MAX_MESSAGE_LENGTH = 1 << 20
MAX_BATCHES_ON_THE_WAY = 4
# How long the caller waits for room for a line that must not be left out.
LONGEST_WAIT_S = 1.0
# To remove lines from the middle of the buffer costs a pass through it; so many are removed at once.
SWEEP_COUNT = 1000
# The levels that are left out first, in this order. Others are kept while there is room.
EXPENDABLE = ("DEBUG", "INFO")


class LogBuffer:
    """Lines that wait to be sent, and what was left out. Not thread-safe; knows no network.

    Args:
        max_lines: more than these are not kept.
    """

    def __init__(self, max_lines: int) -> None:
        self._max_lines = max_lines
        self._lines: deque[tuple[int, LogLine]] = deque()
        self._levels: Counter[str] = Counter()
        self._dropped: dict[int, Counter[str]] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, job_id: int, line: LogLine, taken_count: int) -> bool:
        """Keep a line, if need be in place of others; False if there is no room for an important line.

        Args:
            job_id: whose line it is.
            line: the line.
            taken_count: lines that were taken and still count.
        """
        if len(self._lines) + taken_count >= self._max_lines and not self._make_room(line.level):
            if line.level not in EXPENDABLE:
                return False
            self.drop(job_id, line.level)
            return True
        self._lines.append((job_id, line))
        self._levels[line.level] += 1
        return True

    def drop(self, job_id: int, level: str) -> None:
        """Note that a line was left out."""
        self._dropped.setdefault(job_id, Counter())[level] += 1

    def take(self) -> tuple[int, list[LogLine]]:
        """The next lines of one job, at most a batch; after the last, a note on what was left out."""
        if not self._lines:
            job_id, counts = self._dropped.popitem()
            return job_id, [_note(counts)]
        job_id = self._lines[0][0]
        batch: list[LogLine] = []
        length = 0
        while self._lines and self._lines[0][0] == job_id and len(batch) < MAX_BATCH_LINES:
            length += len(self._lines[0][1].message)
            if batch and length > MAX_BATCH_LENGTH:
                break
            line = self._lines.popleft()[1]
            self._levels[line.level] -= 1
            batch.append(line)
        return job_id, batch

    @property
    def has_any(self) -> bool:
        """Whether there is something to take."""
        return bool(self._lines or self._dropped)

    def _make_room(self, level: str) -> bool:
        """Leave out waiting lines that matter less than one of this level."""
        rank = EXPENDABLE.index(level) if level in EXPENDABLE else len(EXPENDABLE)
        victim = next((each for each in EXPENDABLE[:rank] if self._levels[each]), None)
        if victim is None:
            return False
        kept: deque[tuple[int, LogLine]] = deque()
        removed_count = 0
        for job_id, line in self._lines:
            if line.level == victim and removed_count < SWEEP_COUNT:
                removed_count += 1
                self.drop(job_id, victim)
            else:
                kept.append((job_id, line))
        self._levels[victim] -= removed_count
        self._lines = kept
        return True


class LogStream:
    """Sends log lines in the background, in order.

    `append` may be called by any thread. What the dbserver refuses for good, such as lines of a job that
    was deleted, is left out; `flush` raises the error.

    Args:
        client: of the dbserver; must outlive the stream.
        max_lines: how many lines may wait or be on the way.
    """

    def __init__(self, client: DbClient, max_lines: int = MAX_BUFFERED_LINES) -> None:
        self._client = client
        self._buffer = LogBuffer(max_lines)
        self._on_the_way: deque[logs_pb2.AppendLogRequest] = deque()
        self._on_the_way_count = 0
        self._changed = threading.Condition()
        self._is_closing = False
        self._is_abandoned = False
        self._has_waited_in_vain = False
        self._refusal: errors.QuakeGridError | None = None
        self._attempt = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, job_id: int, line: LogLine) -> None:
        """Have a line stored soon; returns at once, or after a second at most when there is no room."""
        if len(line.message) > MAX_MESSAGE_LENGTH:
            line = dataclasses.replace(line, message=texts.shorten(line.message, MAX_MESSAGE_LENGTH))
        with self._changed:
            is_added = self._buffer.add(job_id, line, self._on_the_way_count)
            if not is_added and not self._has_waited_in_vain:
                is_added = self._changed.wait_for(
                    lambda: self._buffer.add(job_id, line, self._on_the_way_count), LONGEST_WAIT_S
                )
            if not is_added:
                self._buffer.drop(job_id, line.level)
            self._has_waited_in_vain = not is_added
            if len(self._buffer) <= 1:
                self._changed.notify_all()

    def flush(self, timeout_s: float) -> None:
        """Wait until every line is stored.

        Raises:
            PeerUnreachableError: the dbserver did not take them in time.
            QuakeGridError: it refused some; told once.
        """
        with self._changed:
            is_done = self._changed.wait_for(
                lambda: not (self._buffer.has_any or self._on_the_way), timeout_s
            )
            refusal, self._refusal = self._refusal, None
        if refusal:
            raise refusal
        if not is_done:
            raise errors.PeerUnreachableError(
                f"the dbserver did not take the log of this job in {timeout_s:g} s"
            )

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what waits, as far as the time allows, and stop."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()

    def _run(self) -> None:
        """Thread: one stream after another, until there is nothing left to send and nobody to send it."""
        backoff = retries.new_backoff()
        while self._wait_for_work():
            self._attempt += 1
            try:
                for response in self._client.logs.stream_log(self._batches(self._attempt)):
                    self._on_stored(response.request_id)
                    backoff.reset()
            except errors.QuakeGridError as exc:
                self._on_error(exc, backoff)
            except ValueError:  # the client was closed before this sender
                return

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closing or self._buffer.has_any or self._on_the_way)
            return bool(self._buffer.has_any or self._on_the_way) and not self._is_abandoned

    def _batches(self, attempt: int) -> Iterator[logs_pb2.AppendLogRequest]:
        """The batches of one stream, in a thread of gRPC: first those without an answer, then new ones."""
        with self._changed:
            unanswered = list(self._on_the_way)
        yield from unanswered
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_ended(attempt) or self._may_send())
                if self._has_ended(attempt):
                    return
                job_id, lines = self._buffer.take()
                request = encode_batch(job_id, lines)
                self._on_the_way.append(request)
                self._on_the_way_count += len(lines)
            yield request

    def _may_send(self) -> bool:
        return self._buffer.has_any and len(self._on_the_way) < MAX_BATCHES_ON_THE_WAY

    def _has_ended(self, attempt: int) -> bool:
        is_over = self._is_abandoned or (self._is_closing and not self._buffer.has_any)
        return is_over or attempt != self._attempt

    def _on_stored(self, request_id: str) -> None:
        with self._changed:
            while self._on_the_way and self._on_the_way[0].request_id == request_id:
                self._on_the_way_count -= len(self._on_the_way.popleft().lines)
            self._has_waited_in_vain = False
            self._changed.notify_all()

    def _on_error(self, exc: errors.QuakeGridError, backoff: Backoff) -> None:
        """Pause before the next try, or leave out the batch that is refused for good."""
        with self._changed:
            self._attempt += 1
            self._changed.notify_all()
            if not connection.is_transient(exc):
                print(f"log lines were not stored: {exc}", file=sys.stderr)
                self._refusal = exc
                if self._on_the_way:
                    self._on_the_way_count -= len(self._on_the_way.popleft().lines)
                return
            self._changed.wait_for(lambda: self._is_abandoned, backoff.next_s())


def _note(counts: Counter[str]) -> LogLine:
    """The line that says what was left out."""
    parts = ", ".join(f"{count} {level}" for level, count in counts.items())
    message = f"{counts.total()} log lines were left out here and before ({parts}): the dbserver was too slow"
    return LogLine(datetime.datetime.now(datetime.UTC), "WARNING", "quakegrid", message)
