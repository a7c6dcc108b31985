"""The events of a job anywhere in the cluster, as its driver would tell them: from its record and its log.

Works from every machine that reaches the dbserver, for jobs that run and for those that have ended. A thread
follows the log, as `quakegrid jobs logs --follow` does, and hands the events over.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Iterator
from typing import Any, Self

from quakegrid import errors
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs import log_progress
from quakegrid.jobs.documents import exit_code
from quakegrid.jobs.values import Job, LogLine
from quakegrid.settings.config import Settings

Event = dict[str, Any]
# Lines that are read to find out how far each operation is, and those of them that are shown.
READ_LINES, SHOWN_LINES = 10_000, 10
# A log that comes faster than it is shown waits at the dbserver.
MAX_WAITING = 1000


class JobSource:
    """Follows one job. A context manager, which ends the thread.

    Args:
        settings: of the cluster.
        database: its connection is used until the end, and closed by the owner.
        job: to follow.
        verbose: give the whole log, not only its last lines.
    """

    def __init__(self, settings: Settings, database: DbClient, job: Job, *, verbose: bool) -> None:
        self._settings, self._database, self._job, self._verbose = settings, database, job, verbose
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting: queue.Queue[Event | errors.QuakeGridError] = queue.Queue(MAX_WAITING)
        self._is_closed = threading.Event()
        self._bell_lock = threading.Lock()  # the thread rings no bell that is closed
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_closed.set()
        with self._bell_lock:
            os.close(self._bell)

    def fileno(self) -> int:
        """Readable when there are events."""
        return self._bell

    def read(self) -> list[Event]:
        """The events that have come.

        Raises:
            QuakeGridError: the job cannot be followed any more.
        """
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        events: list[Event] = []
        while True:
            try:
                found = self._waiting.get_nowait()
            except queue.Empty:
                return events
            if isinstance(found, errors.QuakeGridError):
                raise found
            events.append(found)

    def abort(self, _number: int) -> None:
        """Let the broker abort the job, wherever it runs."""
        threading.Thread(target=self._abort, name="abort", daemon=True).start()

    def _abort(self) -> None:
        try:
            with BrokerClient(self._settings) as broker:
                broker.abort_job(self._job.id)
        except errors.QuakeGridError as exc:
            self._put({"event": "log", "level": "ERROR", "message": f"not aborted: {exc}"})

    def _follow(self) -> None:
        try:
            for event in self._events():
                if self._is_closed.is_set():
                    return
                self._put(event)
        except errors.QuakeGridError as exc:
            self._put(exc)

    def _put(self, event: Event | errors.QuakeGridError) -> None:
        while not self._is_closed.is_set():
            try:
                self._waiting.put(event, timeout=1.0)
            except queue.Full:
                continue
            with self._bell_lock:
                if not self._is_closed.is_set():
                    os.eventfd_write(self._bell, 1)
            return

    def _events(self) -> Iterator[Event]:
        job = self._job
        yield {"event": "detachable"}
        yield {
            "event": "job",
            "job_id": job.id,
            "description": job.description,
            "calculation_mode": job.calculation_mode,
        }
        after_id = 0
        if not self._verbose:
            lines = list(self._database.logs.list_log(job.id, READ_LINES))
            after_id = lines[-1].id if lines else 0
            yield from self._past(lines)
        if not job.state.is_final:
            yield from self._session_words()
        for line in self._database.logs.tail_log(job.id, after_id):
            yield from self._of_line(line)
        yield from self._end()

    def _past(self, lines: list[LogLine]) -> Iterator[Event]:
        """How far each operation was, and the last lines."""
        operations = {}
        words = []
        for line in lines:
            found = log_progress.read(line.message)
            if found is None:
                words.append(line)
            else:
                operations[found.operation] = found
        for line in words[-SHOWN_LINES:]:
            yield self._log_event(line) | {"is_shown": True}
        for found in operations.values():
            yield self._progress_event(found)

    def _of_line(self, line: LogLine) -> Iterator[Event]:
        found = log_progress.read(line.message)
        if found is not None:
            yield self._progress_event(found)
        yield self._log_event(line)

    def _log_event(self, line: LogLine) -> Event:
        return {"event": "log", "job_id": self._job.id, "level": line.level, "message": line.message}

    def _progress_event(self, found: log_progress.OperationProgress) -> Event:
        return {"event": "progress", "job_id": self._job.id, **found._asdict()}

    def _session_words(self) -> Iterator[Event]:
        """What the broker says of the job, in words; nothing if it cannot be asked."""
        with contextlib.suppress(errors.QuakeGridError), BrokerClient(self._settings) as broker:
            for session in broker.status().sessions:
                if self._job.id in session.job_ids:
                    tasks = session.done_count, session.queued_count + session.running_count
                    words = f"{tasks[0]} tasks done, {tasks[1]} to do, {session.worker_count} workers"
                    yield {"event": "note", "message": f"job {self._job.id} is {session.state}: {words}"}

    def _end(self) -> Iterator[Event]:
        """The end of the job, from its record.

        Raises:
            NotFoundError: the job was deleted meanwhile.
        """
        job = self._database.jobs.get_job(self._job.id)
        outputs = self._database.outputs.list_outputs(job.id)
        yield {
            "event": "end",
            "job_id": job.id,
            "state": "complete" if exit_code(job.state) == errors.EXIT_CLEAN else str(job.state),
            "reason": job.state_reason,
            "datastore": f"{job.ds_calc_dir}.hdf5",
            "outputs": [[each.id, each.display_name, each.ds_key] for each in outputs],
        }
        yield {"event": "exit", "code": exit_code(job.state)}
