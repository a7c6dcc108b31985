"""The journals of the jobs that a driver runs: opened before they run, pinned when inputs were read."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from openquake.baselib import parallel
from openquake.commonlib.oqvalidation import OqParam

from quakegrid import errors
from quakegrid.engine import configuration
from quakegrid.engine.replay import digests, pins
from quakegrid.engine.replay.job_journal import JobJournal, NoJournal, OutcomeJournal, Telling
from quakegrid.engine.replay.ordered import JournalContent
from quakegrid.journals import files
from quakegrid.journals.files import JournalFile, JournalRoom
from quakegrid.journals.records import RecordKind
from quakegrid.settings.config import Settings

NEVER = "never"
NO_JOURNAL = NoJournal()
Origin = Mapping[str, Any]


class DriverJournals:
    """All journals of one driver.

    Args:
        settings: of the cluster.
        origin: the request of the command line, to make it again.
        versions: of all code that results rest on.
        warn: writes into the log of a job.
        note: the same, for what is no warning.
        start_again: ends this process, so that another one starts.
    """

    def __init__(
        self,
        settings: Settings,
        origin: Origin,
        versions: Mapping[str, str],
        *,
        warn: Callable[[int, str], None],
        note: Callable[[int, str], None],
        start_again: Callable[[], NoReturn],
    ) -> None:
        self._settings, self.origin, self._versions = settings, origin, versions
        self._warn, self._note, self._start_again = warn, note, start_again
        self._journals: dict[int, JobJournal] = {}
        self._is_taken_over = False
        self.current: OutcomeJournal = NO_JOURNAL
        self._running: JobJournal | None = None

    def folder(self) -> Path:
        """Where the journals of this driver's person are.

        Raises:
            OSError: there is none, or it is not safe.
        """
        return files.own_folder(self._settings.state_dir, self.origin["user"])

    # --- before the jobs run

    def take_over(self, job_id: int, file: JournalFile) -> JobJournal:
        """Use the journal of an earlier driver."""
        self._is_taken_over = True
        journal = self._journals[job_id] = JobJournal(file, self._room(), self._telling(job_id))
        return journal

    def open(self, jobctxs: Sequence[Any], options: Mapping[str, Any]) -> None:
        """Open a journal for each job, unless they are resumed, with all that it takes to run them again.

        Args:
            jobctxs: of the engine; they have their parameters.
            options: of this run.
        """
        if self._is_taken_over or self._settings.resume == NEVER:
            return
        origin = {**self.origin, "job_ids": [job.calc_id for job in jobctxs], "options": dict(options)}
        try:
            request = [json.dumps(origin).encode(), pickle.dumps(list(jobctxs))]
            room = self._room()
            room.remove_outdated()
            for job in jobctxs:
                path = files.path_of(self.folder(), job.calc_id)
                journal = JobJournal(JournalFile(path, is_new=True), room, self._telling(job.calc_id))
                self._journals[job.calc_id] = journal
                journal.write(RecordKind.REQUEST, request)
        except (OSError, errors.QuakeGridError, pickle.PicklingError, TypeError, AttributeError) as exc:
            for job in jobctxs:
                if job.calc_id in self._journals:
                    self._journals.pop(job.calc_id).end(is_complete=True)
            self._warn(jobctxs[0].calc_id, _without(exc))

    def recorded_count(self, job_id: int) -> int:
        """Outcomes of tasks in the journal of an earlier job; 0 if it has none here."""
        try:
            content = JournalContent(files.content_of(files.path_of(self.folder(), job_id)))
        except OSError:
            return 0
        return len(content.outcomes)

    # --- while they run

    @contextlib.contextmanager
    def running(self, job_id: int) -> Iterator[None]:
        """Use the journal of a job while it runs; it is removed if the job is complete."""
        digests.settle_random_state()
        self._running = self._journals.get(job_id)
        is_complete = False
        try:
            yield
            is_complete = True
        finally:
            self.current = NO_JOURNAL
            if self._running is not None:
                self._running.end(is_complete=is_complete)
                self._running = None

    def begin(self, oqparam: Any, parent: Any, set_concurrency: Callable[[], None]) -> None:
        """Answer and record from now on: the job that runs has read its inputs.

        Args:
            oqparam: its parameters.
            parent: the job that it starts from, or None.
            set_concurrency: lets the engine choose the number of tasks.
        """
        set_concurrency()
        journal = self._running
        if journal is None:
            return
        now = self._pins(oqparam, parent)
        now["setting"]["tasks at once"] = str(parallel.Starmap.CT)
        then = journal.content.pins
        try:
            if then is None:
                journal.write(RecordKind.PINS, [pins.encode(now)])
            else:
                count = int(pins.decode(then.record.frames[0])["setting"]["tasks at once"])
                parallel.Starmap.CT = OqParam.concurrent_tasks.default = count
        except OSError as exc:
            self._warn_without(journal, exc)
            return
        journal.begin()
        self.current = journal

    def close_for(self, reason: str) -> None:
        """Record nothing any more of the job that runs."""
        self.current.close(reason)

    def check_over(self) -> None:
        """Before the job that runs is complete."""
        if self._running is not None:
            self._running.check_over()

    def close(self) -> None:
        """Keep the journals of jobs that did not come to run."""
        for journal in self._journals.values():
            journal.file.close()

    def differences(self, journal: JobJournal, oqparam: Any, parent: Any) -> list[str]:
        """How what a journal rests on differs from what is here, in words."""
        if journal.content.pins is None:
            return []
        then = pins.decode(journal.content.pins.record.frames[0])
        then["setting"].pop("tasks at once")
        return pins.differences(then, self._pins(oqparam, parent))

    def _pins(self, oqparam: Any, parent: Any) -> pins.Pins:
        """What a calculation rests on, now."""
        return pins.of(oqparam, self._versions, pins.parent_of(parent), configuration.exported())

    def _warn_without(self, journal: JobJournal, exc: OSError) -> None:
        job_id = next(number for number, each in self._journals.items() if each is journal)
        self._warn(job_id, _without(exc))

    def _room(self) -> JournalRoom:
        return JournalRoom(self.folder(), self._settings.journal_bytes)

    def _telling(self, job_id: int) -> Telling:
        def diverged(reason: str) -> NoReturn:
            self._warn(
                job_id,
                f"this run is not the one that its journal recorded: {reason}. Nothing of the journal is "
                "used; the calculation starts again from its beginning",
            )
            self._journals[job_id].forget_outcomes()
            self._start_again()

        return Telling(lambda text: self._warn(job_id, text), lambda text: self._note(job_id, text), diverged)


def _without(exc: Exception) -> str:
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return f"this calculation has no journal, so it cannot be resumed: {reason}"


def origin_of(request: Mapping[str, Any]) -> dict[str, Any]:
    """What a journal keeps of the request for a driver."""
    kept = {name: request[name] for name in ("argv", "cwd", "environ", "mode")}
    return kept | {"time_s": time.time(), "user": getpass.getuser(), "pid": os.getpid()}
