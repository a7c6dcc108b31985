"""How far a driver is, told to the broker: at once when a stage begins, and at most once in a while.

A thread tells it, so that tasks wait for nothing. What the broker does not hear is told again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp

from quakegrid.api.v1 import fleet_pb2

# The broker takes no more, and no longer names.
MOST_STAGES = 64
MOST_NAME_CHARS = 255
Counts = tuple[int, int, int]
Stages = list[fleet_pb2.StageProgress]


@dataclass(slots=True)
class _KnownStage:
    """One stage: when it began, when its counts changed last, and its tasks: done, all, replayed."""

    begin_s: float
    change_s: float
    counts: Counts


class StageBook:
    """The last stages of a session, in the order in which they began. Pure."""

    def __init__(self) -> None:
        self._stages: dict[tuple[int, str], _KnownStage] = {}

    def take(self, job_id: int, operation: str, counts: Counts, now_s: float) -> None:
        """Note how far an operation is.

        Args:
            job_id: its calculation; 0 for none.
            operation: its name.
            counts: tasks that are done, all tasks, and those of a journal.
            now_s: the time, as clocks tell it.
        """
        key = job_id, operation
        found = self._stages.get(key)
        if found is not None:
            found.counts, found.change_s = counts, now_s
            return
        if len(self._stages) >= MOST_STAGES:
            del self._stages[next(iter(self._stages))]
        self._stages[key] = _KnownStage(now_s, now_s, counts)

    def messages(self) -> Stages:
        """All of them, for the broker."""
        return [
            fleet_pb2.StageProgress(
                job_id=job_id,
                operation=operation[:MOST_NAME_CHARS],
                done_count=told.counts[0],
                total_count=told.counts[1],
                replayed_count=told.counts[2],
                begin_time=_timestamp(told.begin_s),
                change_time=_timestamp(told.change_s),
            )
            for (job_id, operation), told in self._stages.items()
        ]


class StageTeller:
    """Tells the broker the stages of one session; its thread runs from the first stage on.

    Args:
        tell: the broker; returns whether it is done with that, and raises nothing.
        pause_s: at least so long between two of them.
    """

    def __init__(self, tell: Callable[[Stages], bool], pause_s: float) -> None:
        self._tell, self._pause_s = tell, pause_s
        self._book, self._lock = StageBook(), threading.Lock()
        self._has_news, self._closed = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, job_id: int, operation: str, counts: Counts) -> None:
        """Note how far an operation is, see `StageBook.take`; for one thread."""
        with self._lock:
            self._book.take(job_id, operation, counts, time.time())
        self._has_news.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="stages", daemon=True)
            self._thread.start()

    def tell_again(self) -> None:
        """Another broker has the session; for any thread."""
        self._has_news.set()

    def close(self) -> None:
        """Tell nothing any more."""
        self._closed.set()
        self._has_news.set()

    def _run(self) -> None:
        while self._has_news.wait() and not self._closed.is_set():
            self._has_news.clear()
            with self._lock:
                stages = self._book.messages()
            if not self._tell(stages):
                self._has_news.set()
            self._closed.wait(self._pause_s)


def _timestamp(time_s: float) -> Timestamp:
    made = Timestamp()
    made.FromMilliseconds(int(time_s * 1000))
    return made
