"""The driver's side of the seams: tasks out to the lane, results in from it, as a Starmap expects.

A Starmap opens a PULL socket and iterates over it; here that is a `Channel`, a queue of results with a
number in place of a port. Everything runs in the driver's main thread.
"""

from __future__ import annotations

import collections
import itertools
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from openquake.baselib import parallel, zeromq

from quakegrid.engine.files.starmap_files import StarmapFiles
from quakegrid.engine.replay.job_journal import NoJournal, OutcomeJournal, RecordedOutcome
from quakegrid.engine.replay.ordered import Submission
from quakegrid.engine.tasks import task_progress
from quakegrid.engine.tasks.engine_task import dump_task
from quakegrid.engine.tasks.known_jobs import KnownJobs
from quakegrid.engine.tasks.late_exports import LateExport
from quakegrid.engine.tasks.task_progress import Event, TaskProgress, TaskQueue
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask
from quakegrid.session.session import Session


@dataclass(frozen=True, slots=True)
class _OpenTask:
    """A task whose outcome has not come."""

    channel: Channel
    task_no: int
    monitor: Any
    operation: str
    submission: Submission | None


class Channel:
    """Stands in for the PULL socket of one Starmap.

    Args:
        starmaps: receives for all channels.
        port: a number of ours, unique in this driver.
    """

    def __init__(self, starmaps: Starmaps, port: int) -> None:
        self._starmaps = starmaps
        self._local: Any = None
        self.port = port
        self.results: collections.deque[Any] = collections.deque()
        self.task_queue: TaskQueue = ()  # the Starmap's own

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._starmaps.close_channel(self)
        if self._local is not None:
            self._local.__exit__(*exc_info)

    def open_locally(self) -> str:
        """Bind a real socket for a Starmap that runs in upstream's own pool; returns its address."""
        if self._local is None:
            self._local = zeromq.Socket("tcp://127.0.0.1:49152-65535", zeromq.zmq.PULL, "bind").__enter__()
        return f"tcp://127.0.0.1:{self._local.port}"

    def __iter__(self) -> Iterator[Any]:
        if self._local is not None:
            yield from self._local
        while True:
            while self.results:
                yield self.results.popleft()
            self._starmaps.receive()


class _Loopback:
    """Stands in for the PUSH socket of a task that runs in the driver itself.

    Results are pickled as upstream does: a task goes on changing its monitor after it sent it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def send(self, result: Any) -> None:
        frame = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
        self._channel.results.append(pickle.loads(frame))  # noqa: S301 - our own bytes


class Starmaps:
    """All Starmaps of a driver.

    Args:
        session: gives the open session; opens one for work without a job.
        on_event: told of progress.
        known_jobs: what tasks may look up.
        files: of their jobs.
    """

    def __init__(
        self,
        session: Callable[[], Session],
        on_event: Callable[[Event], None],
        known_jobs: KnownJobs,
        files: StarmapFiles,
    ) -> None:
        self._session, self._progress = session, TaskProgress(task_progress.to_broker_too(on_event, session))
        self._known_jobs, self.files = known_jobs, files
        self._channels: dict[int, Channel] = {}
        self._ports = itertools.count(1)
        # By the session's numbers, which begin with 1. Tasks whose outcomes are recorded have 0 and below.
        self._pending: dict[int, _OpenTask] = {}
        self.journal: OutcomeJournal = NoJournal()
        self.late_export = LateExport()

    def open_channel(self) -> Channel:
        """A channel for a new Starmap."""
        channel = Channel(self, next(self._ports))
        self._channels[channel.port] = channel
        return channel

    def close_channel(self, channel: Channel) -> None:
        """Forget a channel and what was still to come for it."""
        self._channels.pop(channel.port, None)
        self.files.end(channel.port)
        late = [task_id for task_id, task in self._pending.items() if task.channel is channel]
        for task_id in late:
            del self._pending[task_id]
        if late := [task_id for task_id in late if task_id > 0]:
            self._session().cancel(late)

    def loopback(self, end_point: str) -> _Loopback:
        """Where a task in this process sends its results."""
        return _Loopback(self._channels[int(end_point.rpartition(":")[2])])

    def submit(self, starmap: Any, func: Any, args: Any, monitor: Any) -> None:
        """Send a task of a Starmap to the lane."""
        operation = func.__name__
        session = self._session()  # first: with it the workers learn of jobs
        # Also for a task whose outcome is recorded: files are as they are when its Starmap begins.
        files = self.files.for_task(starmap)
        submission = self.journal.submit(func, args, starmap.task_no, monitor)
        if submission is not None and submission.is_recorded:
            task_id = -submission.number
        else:
            payload = dump_task(func, args, starmap.task_no, monitor, self._known_jobs.for_task(), files)
            task_id = session.submit(payload, LaneTask(operation))
        self._pending[task_id] = _OpenTask(starmap.socket, starmap.task_no, monitor, operation, submission)
        starmap.socket.task_queue = starmap.task_queue
        self._progress.count_submitted(operation, starmap.calc_id)
        self._progress.tell(operation, starmap.calc_id, starmap.task_queue, time.monotonic())

    def receive(self) -> None:
        """Wait for one outcome and put its results into their channel."""
        recorded = self.journal.next()
        if recorded is not None:
            task = self._pending.pop(-recorded.number, None)
            if task is None:
                self.journal.lose(recorded.number)
            self._progress.count_replayed(task.operation, task.monitor.calc_id)
            self._deliver(recorded, task)
            return
        session = self._session()
        while (outcome := session.receive_ready()) is None:
            self.files.take_turn()
            # As long as tasks are here that were not sent, workers wait for the driver.
            if any(each.task_queue for each in self._channels.values()):
                session.wait()
            elif not self.late_export.take_turn():
                session.wait(self.late_export.due_s)
        task = self._pending.pop(outcome.task_id, None)
        if task is None:
            return  # of a Starmap that ended early
        if self._deliver(outcome, task):
            self.journal.record(task.submission, [frame.buffer for frame in outcome.frames])
        else:  # it is tried again if the calculation is
            self.journal.close()

    def _deliver(self, outcome: LaneOutcome | RecordedOutcome, task: _OpenTask) -> bool:
        """Put the results of an outcome into their channel; returns whether the task succeeded."""
        results = _results(outcome, task)
        task.channel.results.extend(results)
        self._progress.count_done(task.operation, task.monitor.calc_id)
        self._progress.tell(task.operation, task.monitor.calc_id, task.channel.task_queue, time.monotonic())
        return not any(result.tb_str for result in results)


def _results(outcome: LaneOutcome | RecordedOutcome, task: _OpenTask) -> list[Any]:
    """Upstream's results of an outcome; a lost task becomes an error that the Starmap raises."""
    if not outcome.error:
        return [pickle.loads(frame.buffer) for frame in outcome.frames]  # noqa: S301 - from our worker
    monitor = task.monitor.new(operation=f"total {task.operation}")
    monitor.task_no = task.task_no
    traceback = f"in operation {task.operation}, task number {task.task_no}\n"
    return [parallel.Result(RuntimeError(outcome.error), monitor, traceback)]
