"""The events of a job anywhere in the cluster, as its driver would tell them: from its record and its log.

Works wherever the dbserver is reached, for jobs that run and for those that have ended. The log is followed
as `quakegrid jobs logs --follow` does.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

from quakegrid import errors
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs import log_progress
from quakegrid.jobs.documents import exit_code
from quakegrid.jobs.values import Job, LogLine
from quakegrid.settings.config import Settings

Event = dict[str, Any]
# Lines that are read to find out how far each operation is, and those of them that are shown.
READ_LINES, SHOWN_LINES = 10_000, 10


class JobEvents:
    """What becomes of one job.

    Args:
        settings: of the cluster.
        database: its connection is used until the end, and closed by the owner.
        job: to follow.
        verbose: give the whole log, not only its last lines.
    """

    def __init__(self, settings: Settings, database: DbClient, job: Job, *, verbose: bool) -> None:
        self._settings, self._database, self._job, self._verbose = settings, database, job, verbose
        self._has_begun, self._after_id = False, 0

    def follow(self) -> Iterator[Event]:
        """The events until the job has ended, which is told by `end` and `exit`.

        If it is left in the middle, a second call goes on where the first one was.

        Raises:
            NotFoundError: the job was deleted meanwhile.
        """
        if not self._has_begun:
            self._has_begun = True
            yield from self._begin()
        for line in self._database.logs.tail_log(self._job.id, self._after_id):
            self._after_id = line.id
            yield from self._of_line(line)
        yield from self._end()

    def abort(self) -> None:
        """Let the broker abort the job, wherever it runs.

        Raises:
            QuakeGridError: it was not aborted.
        """
        with BrokerClient(self._settings) as broker:
            broker.abort_job(self._job.id)

    def _begin(self) -> Iterator[Event]:
        job = self._job
        yield {"event": "detachable"}
        yield {
            "event": "job",
            "job_id": job.id,
            "description": job.description,
            "calculation_mode": job.calculation_mode,
            "is_own": own_jobs.is_own(self._database, job),
        }
        if not self._verbose:
            lines = list(self._database.logs.list_log(job.id, READ_LINES))
            self._after_id = lines[-1].id if lines else 0
            yield from self._past(lines)
        if not job.state.is_final:
            yield from self._session_words()

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
                    workers = "1 worker" if session.worker_count == 1 else f"{session.worker_count} workers"
                    done = "1 task" if tasks[0] == 1 else f"{tasks[0]} tasks"
                    words = f"{done} done, {tasks[1]} to do, {workers}"
                    yield {"event": "note", "message": f"job {self._job.id} is {session.state}: {words}"}

    def _end(self) -> Iterator[Event]:
        """The end of the job, from its record."""
        job = self._database.jobs.get_job(self._job.id)
        stop_time = job.stop_time or datetime.datetime.now(datetime.UTC)
        code = exit_code(job.state)
        yield {
            "event": "end",
            "job_id": job.id,
            "state": "complete" if code == errors.EXIT_CLEAN else str(job.state),
            "reason": job.state_reason,
            "datastore": f"{job.ds_calc_dir}.hdf5",
            "outputs": [
                [each.id, each.display_name, each.ds_key]
                for each in self._database.outputs.list_outputs(job.id)
            ],
            "duration_s": (stop_time - job.start_time).total_seconds(),
        }
        yield {"event": "exit", "code": code}
