"""The engine's `dbcmd`, over gRPC to the dbserver.

Turns our values back into the engine's own classes and our errors into its exceptions. Log records are
sent by a stream in the background; whatever ends a job waits until they are on disk.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from openquake.calculators.export import DISPLAY_NAME
from openquake.commonlib import dbapi

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.log_sender import LogStream
from quakegrid.engine import optional_parts
from quakegrid.engine.database.hold_keeper import HoldKeeper
from quakegrid.engine.database.log_pages import LogText
from quakegrid.engine.driver import stops
from quakegrid.engine.driver.stops import End, StopReason
from quakegrid.engine.tasks.known_jobs import KnownJobs
from quakegrid.jobs.engine_values import RowValue, TableValue
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.session.worker_output import WorkerWords
from quakegrid.settings.config import Settings

RETRY_S = 30.0
FLUSH_TIMEOUT_S = 60.0

# The last line of the traceback that the engine logs when it was told to stop.
KILLED = re.compile(r"^MasterKilled: .*\Z", re.MULTILINE)

Event = dict[str, object]


class Database:
    """The dbserver as the engine sees it.

    Args:
        settings: of the cluster.
        on_event: told of new jobs and log records.
    """

    def __init__(self, settings: Settings, on_event: Callable[[Event], None]) -> None:
        self._client = DbClient(settings, retry_s=RETRY_S)
        self._on_event = on_event
        self._log_stream: LogStream | None = None
        self._log_lock = threading.Lock()
        self._holds: HoldKeeper | None = None
        self.job_ids: list[int] = []
        # Jobs of the same request that an earlier driver has completed.
        self.earlier_ids: list[int] = []
        self._finished_ids: set[int] = set()
        self.stop = StopReason()
        self.ends: dict[int, End] = {}
        self.known_jobs = KnownJobs()

    @property
    def client(self) -> DbClient:
        """The typed client underneath."""
        return self._client

    def call(self, action: str, *args: Any) -> Any:
        """Run one of upstream's actions or SQL texts, with upstream's results and exceptions."""
        match action:
            case "log":
                if self.stop.text and KILLED.search(args[-1]):
                    return None  # the engine's way to stop, no error; `end` logs the reason
                return self._log(*args)
            case "finish":
                return self._finish(*args)
            case "create_outputs":
                job_id, keysize, ds_size = args
                rows = [[key, _display_name(key), size] for key, size in keysize]
                return self._call(action, job_id, rows, ds_size)
            case "get_log":
                return LogText(self._client, *args)
            case "create_job":
                job_id = self._call(action, *args)
                _data_dir, calculation_mode, description, *_ = args
                self.take_up(job_id, calculation_mode, description)
                return job_id
            case _:
                return self._call(action, *args)

    def take_up(self, job_id: int, calculation_mode: str, description: str) -> None:
        """Count a job among those of this driver."""
        self.job_ids.append(job_id)
        self._on_event(
            {
                "event": "job",
                "job_id": job_id,
                "calculation_mode": calculation_mode,
                "description": description,
            }
        )

    def log(self, job_id: int, text: str, level: str) -> None:
        """Write a line into the log of a job; for any thread."""
        self._log(job_id, datetime.datetime.now(datetime.UTC), level, "driver", text)

    def look_up(self, job_id: int) -> None:
        """Look up a job and the one that it starts from, for its tasks."""
        job = self.call("get_job", job_id)
        if job is not None and job.hazard_calculation_id not in (None, job_id):
            self.call("get_job", job.hazard_calculation_id)

    def warn(self, job_ids: Sequence[int], message: str) -> None:
        """Write what the broker told into the logs of jobs, to stderr if there are none; for any thread."""
        if not job_ids:
            print(message, file=sys.stderr, flush=True)
        for job_id in job_ids:
            self._log(job_id, datetime.datetime.now(datetime.UTC), "WARNING", "broker", message)

    @contextlib.contextmanager
    def hold_jobs(self, job_ids: Sequence[int]) -> Iterator[None]:
        """Hold jobs while they wait or run; a job that somebody else ends interrupts this driver."""
        self._holds = HoldKeeper(job_ids, self._client.jobs.renew_hold, self._interrupt)
        try:
            yield
        finally:
            self._holds.close()
            self._holds = None

    def log_words(self, job_ids: Sequence[int], words: WorkerWords) -> None:
        """Log a line of a worker of a session with these jobs, of which the first unfinished runs.

        For any thread.
        """
        job_id = next((each for each in job_ids if each not in self._finished_ids), job_ids[-1])
        level = "WARNING" if words.is_warning else "INFO"
        process = f"{words.node}/{words.worker_id}"
        self._log(job_id, datetime.datetime.now(datetime.UTC), level, process, words.text)

    def flush(self) -> None:
        """Wait until every log record is stored.

        Raises:
            QuakeGridError: the dbserver did not take them.
        """
        if self._log_stream:
            self._log_stream.flush(FLUSH_TIMEOUT_S)

    def close(self) -> None:
        """Flush and let go of the dbserver."""
        try:
            self.flush()
        finally:
            if self._log_stream:
                self._log_stream.close()
            self._client.close()

    def _call(self, action: str, *args: Any) -> Any:
        try:
            result = self._client.call(action, *args, user_name=getpass.getuser())
        except errors.NotFoundError as exc:
            raise dbapi.NotFound(str(exc)) from exc
        found = _to_engine(result)
        if action == "get_job" and found is not None:
            self.known_jobs.note(found)
        return found

    def end(self, job_id: int, end: End, *, is_logged: bool = False) -> None:
        """End a job early, unless it has ended; its log gets the reason too.

        Args:
            job_id: of the job.
            end: its state and why.
            is_logged: whether the log of a failed job has the reason already.
        """
        self.ends.setdefault(job_id, end)
        if end.state == "failed":
            if not is_logged:
                self._log(job_id, datetime.datetime.now(datetime.UTC), "ERROR", "driver", end.reason)
            self._let_go(job_id)
            self._call("finish", job_id, "failed", end.reason)
            return
        self._let_go(job_id)
        with contextlib.suppress(errors.NotFoundError, errors.StateError):  # it has ended, or was deleted
            self._client.jobs.transition(job_id, JobState.ABORTED, end.reason)

    def _finish(self, job_id: int, status: str) -> Any:
        """What upstream calls at the end of a job; while an exception passes, that says how it ended."""
        exc = sys.exc_info()[1]
        if exc is None or status == "complete" or job_id in self._finished_ids:
            self._let_go(job_id)
            return self._call("finish", job_id, status)
        # Upstream logs tracebacks, but no words of `sys.exit`, and not which package is missing.
        is_logged = not isinstance(exc, SystemExit) and not optional_parts.explain(exc)
        self.end(job_id, stops.judge(exc, self.stop.text), is_logged=is_logged)
        return None

    def _let_go(self, job_id: int) -> None:
        """Store all of a job's log, and hold the job no more."""
        try:
            self.flush()
        except errors.QuakeGridError as exc:  # the state matters more than the log
            print(f"the log of job {job_id} is not complete: {exc}", file=sys.stderr)
        self._finished_ids.add(job_id)
        if self._holds:
            self._holds.release(job_id)

    def _interrupt(self, job_id: int, reason: str) -> None:
        words = f"job {job_id} was ended by the dbserver: {reason}"
        print(words, file=sys.stderr)
        self.stop.note(words)
        os.kill(os.getpid(), signal.SIGINT)  # the engine's own way to stop

    def _log(self, job_id: int, log_time: datetime.datetime, level: str, process: str, message: str) -> None:
        with self._log_lock:
            if self._log_stream is None:  # starts a thread: not before the first line
                self._log_stream = LogStream(self._client)
        self._on_event(
            {
                "event": "log",
                "job_id": job_id,
                "level": level,
                "message": message,
                "log_time": log_time.timestamp(),
            }
        )
        line = LogLine(id=0, log_time=log_time, level=level, process=str(process), message=message)
        self._log_stream.append(job_id, line)


def _display_name(key: str) -> str:
    try:
        return str(DISPLAY_NAME[key])
    except KeyError:
        raise NameError(f"{key} is missing in DISPLAY_NAME") from None  # upstream's own words


def _to_engine(value: Any) -> Any:
    """Rebuild upstream's row and table classes; its instants are naive UTC."""
    match value:
        case RowValue(fields, values):
            return dbapi.Row(list(fields), [_to_engine(each) for each in values])
        case TableValue(fields, rows):
            return dbapi.Table(list(fields), [[_to_engine(each) for each in row] for row in rows])
        case datetime.datetime():
            return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value
        case list():
            return [_to_engine(each) for each in value]
        case tuple():
            return tuple(_to_engine(each) for each in value)
        case dict():
            return {key: _to_engine(each) for key, each in value.items()}
        case _:
            return value
