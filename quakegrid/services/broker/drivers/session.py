"""The state of a driver's session in the broker: the request, the events for the driver, the lane's counts.

Decides nothing.
"""

from __future__ import annotations

import asyncio
import collections
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from quakegrid.access.principals import SERVICE, Principal
from quakegrid.api.v1 import fleet_pb2
from quakegrid.internal.v1 import sessions_pb2
from quakegrid.jobs.states import JobState
from quakegrid.services.broker.drivers.printed import SessionOutput
from quakegrid.wire.v1 import lane_pb2

# The most messages that wait for a driver, besides those that tell of its turn or its end.
MAX_WAITING = 10_000
AWAITED = ("admitted", "aborted", "failed")
RATE_WINDOW_S = 10.0
RATE_STEP_S = 1.0


Events = asyncio.Queue[sessions_pb2.OpenSessionResponse | None]


class Rate:
    """How fast a counter grows, over the last ten seconds. Pure."""

    def __init__(self, now_s: float) -> None:
        self._samples: collections.deque[tuple[float, int]] = collections.deque([(now_s, 0)])

    def add(self, now_s: float, count: int) -> None:
        """Note that the counter is `count` now."""
        if now_s - self._samples[-1][0] >= RATE_STEP_S:
            self._samples.append((now_s, count))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - RATE_WINDOW_S:
            self._samples.popleft()

    def hz(self, now_s: float, count: int) -> float:
        """Growth in a second; the counter is `count` now."""
        self.add(now_s, count)
        start_s, start_count = self._samples[0]
        return (count - start_count) / max(now_s - start_s, RATE_STEP_S)


@dataclass(slots=True)
class DriverSession:
    """A driver's session.

    `placed` is set when the session has a lane, or when it is certain that it gets none. `events` are for the
    stream that was attached last; None ends that stream. `hosts` have had workers of the session.
    `end_reason` says why the session ends without its driver's request; then its jobs get `end_state`.
    `principal` is who asked for the session. `stages` is how far the driver is, as it told last.
    """

    session_id: int
    request: sessions_pb2.OpenSessionRequest
    done_rate: Rate
    events: Events = field(default_factory=asyncio.Queue)
    placed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    counts: lane_pb2.LaneCounts = field(default_factory=lane_pb2.LaneCounts)
    busy_worker_ids: set[str] = field(default_factory=set)
    end_reason: str = ""
    end_state: JobState = JobState.FAILED
    is_admitted: bool = False
    output: SessionOutput = field(default_factory=SessionOutput)
    hosts: set[str] = field(default_factory=set)
    principal: Principal = SERVICE
    stages: Sequence[fleet_pb2.StageProgress] = ()

    def end_as(self, state: JobState, reason: str) -> bool:
        """Note why the session is to end; returns False if there is an earlier reason, which stays."""
        if self.end_reason or self.ended.is_set():
            return False
        self.end_reason, self.end_state = reason, state
        return True

    def note_counts(self, counts: lane_pb2.LaneCounts) -> None:
        """Take what the lane told: its counters, and which workers became busy or idle."""
        self.counts = counts
        if counts.are_names_anew:
            self.busy_worker_ids.clear()
        self.busy_worker_ids.difference_update(counts.idle_worker_ids)
        self.busy_worker_ids.update(counts.busy_worker_ids)

    def tell(self, response: sessions_pb2.OpenSessionResponse) -> None:
        """Queue an event for the driver.

        A driver that does not read for long misses events, but not those of its turn and its end.
        """
        if self.events.qsize() < MAX_WAITING or response.WhichOneof("event") in AWAITED:
            self.events.put_nowait(response)

    def attach(self) -> Events:
        """The events for a new stream of the driver; an earlier stream ends."""
        earlier, self.events = self.events, asyncio.Queue()
        while not earlier.empty():
            self.events.put_nowait(earlier.get_nowait())
        earlier.put_nowait(None)
        return self.events

    def goes_on_with(self, request: sessions_pb2.OpenSessionRequest) -> bool:
        """Whether a request asks to continue this session on a new stream."""
        mine = self.request
        if (mine.host, mine.pid) != (request.host, request.pid):
            return False
        if request.resumed_session_id:
            return request.resumed_session_id == self.session_id
        # As far as the driver knows it is not admitted yet. The nonce proves that it is the same driver:
        # everything else is in the fleet's status.
        is_same_driver = secrets.compare_digest(mine.driver_nonce, request.driver_nonce)
        return is_same_driver and bool(mine.job_ids) and mine.job_ids == request.job_ids

    @property
    def where(self) -> str:
        """Where the driver runs, in words for people."""
        return f"{self.request.host} (process {self.request.pid})"

    @property
    def task_count(self) -> int | None:
        """The number of queued and running tasks; None before the first."""
        counts = self.counts
        task_count = counts.queued_count + counts.running_count
        return task_count if task_count + counts.done_count + counts.failed_count else None

    @property
    def weight(self) -> float:
        """Its part of the cores against the weights of others."""
        return self.request.weight or 1.0
