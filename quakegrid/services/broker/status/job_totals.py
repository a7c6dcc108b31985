"""Totals of what the dbserver tells of jobs: how many there are, how they ended, and how long they took.

`JobTotals` counts; `JobWatch` hears of each change, in the event loop of the broker, and loses none while the
dbserver is away.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import grpc

from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc
from quakegrid.clients import retries
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs.states import JobState
from quakegrid.machine import service_life
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels

ENDS = (JobState.COMPLETE, JobState.FAILED, JobState.ABORTED)
# Upper bounds of a histogram, seconds: from a demo to a model of a continent.
BOUNDS_S = (10.0, 60.0, 300.0, 1800.0, 3600.0, 4 * 3600.0, 24 * 3600.0, 72 * 3600.0)
log = logging.getLogger("quakegrid.broker")


class Durations:
    """A histogram of the times of jobs that ended in one way."""

    def __init__(self) -> None:
        self.sum_s = 0.0
        self._counts = [0] * (len(BOUNDS_S) + 1)

    def add(self, duration_s: float) -> None:
        """Count one job."""
        self._counts[bisect.bisect_left(BOUNDS_S, duration_s)] += 1
        self.sum_s += duration_s

    @property
    def count(self) -> int:
        """All jobs."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Bounds as text, and how many jobs took at most so long; as Prometheus has them."""
        names = (*(f"{bound_s:g}" for bound_s in BOUNDS_S), "+Inf")
        return [
            (name, float(count))
            for name, count in zip(names, itertools.accumulate(self._counts), strict=True)
        ]


class JobTotals:
    """Counts jobs.

    Attributes:
        is_heard: whether the dbserver tells changes now.
        after_event_id: the last event that is counted; None before the first.
        states: how many jobs there are in each state, deleted ones left out.
        ended: the times of those that ended since the broker began to listen.
    """

    def __init__(self) -> None:
        self.is_heard = False
        self.after_event_id: int | None = None
        self.states: Counter[JobState] = Counter()
        self.ended = {state: Durations() for state in ENDS}
        self._is_filling = False

    def lose(self) -> None:
        """The dbserver has gone; a snapshot that was not whole counts for nothing."""
        self.is_heard = False
        if self._is_filling:
            self.states.clear()
            self._is_filling = False

    def take(self, response: jobs_pb2.WatchJobsResponse) -> None:
        """Count what the dbserver tells."""
        if response.WhichOneof("kind") == "snapshot":
            self._take_part(response.snapshot)
        else:
            self._take_event(response.event)

    def _take_part(self, part: jobs_pb2.JobSnapshot) -> None:
        if not self._is_filling:  # what came before is void
            self.states.clear()
        self._is_filling = not part.is_complete
        self.states.update(state for job in part.jobs if (state := _counted_state(job.state)) is not None)
        if part.is_complete:
            self.after_event_id, self.is_heard = part.event_id, True

    def _take_event(self, event: jobs_pb2.JobEvent) -> None:
        self.after_event_id, self.is_heard = event.id, True
        old, new = _counted_state(event.old_state), _counted_state(event.new_state)
        if old is not None:
            self.states[old] -= 1
        if new is None:
            return
        self.states[new] += 1
        # A job that nobody shares any more is complete again, and has not ended anew.
        if new in self.ended and old is not JobState.SHARED:
            stop, start = event.job.stop_time, event.job.start_time
            has_run = event.job.HasField("start_time") and event.job.HasField("stop_time")
            took_ns = stop.ToNanoseconds() - start.ToNanoseconds() if has_run else 0
            self.ended[new].add(max(0, took_ns) / 1e9)

    def counts(self) -> Iterator[tuple[str, int]]:
        """All states with the number of jobs in them."""
        for state in JobState:
            if state is not JobState.DELETED:
                yield state.value, self.states[state]


def _counted_state(number: jobs_pb2.JobState.ValueType) -> JobState | None:
    """A state that is counted; None for none, for deleted jobs, and for one of a newer dbserver."""
    if number not in jobs_pb2.JobState.values() or number == jobs_pb2.JOB_STATE_UNSPECIFIED:
        return None
    state = job_messages.decode_state(number)
    return None if state is JobState.DELETED else state


class JobWatch:
    """Keeps totals up to date.

    Args:
        settings: of the cluster.
    """

    def __init__(self, settings: Settings) -> None:
        self.totals = JobTotals()
        self._settings = settings
        self._task: asyncio.Task[None] | None = None
        self._was_told = False  # whether the log has that the dbserver does not answer

    def start(self) -> None:
        """Begin to listen, in the running event loop."""
        watching = retries.follow(self._open, self.totals.take, self._lose)
        self._task = asyncio.get_running_loop().create_task(watching, name="job totals")
        self._task.add_done_callback(service_life.must_not_fail)

    async def close(self) -> None:
        """Listen no longer."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _open(self) -> AsyncIterator[jobs_pb2.WatchJobsResponse]:
        """What the dbserver tells, over a connection of its own: its certificate is fresh."""
        address = self._settings.dbserver_address
        request = jobs_pb2.WatchJobsRequest(after_event_id=self.totals.after_event_id)
        async with grpc_channels.open_aio_channel(address, self._settings.proof) as channel:
            async for response in jobs_pb2_grpc.JobsStub(channel).WatchJobs(request):
                yield response

    def _lose(self, failure: grpc.RpcError | None) -> None:
        if failure is not None:
            if self.totals.is_heard or not self._was_told:
                log.info("jobs_not_heard reason=%s", failure.details())
            self._was_told = True
        self.totals.lose()
