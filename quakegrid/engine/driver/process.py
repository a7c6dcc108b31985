"""What the engine's calls do in a driver: tasks go to the lane, database calls to the dbserver.

It opens and closes the session in which calculations run. `calculations` calls it around a calculation, the
two modes of a driver when that ends.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from openquake.baselib import parallel, zeromq

from quakegrid import errors
from quakegrid.clients.dbserver.driver_certificate import CertificateKeeper
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.engine import configuration, this_process
from quakegrid.engine.database.dbcmd import Database
from quakegrid.engine.driver import commands, stops
from quakegrid.engine.driver.event_stream import Events
from quakegrid.engine.driver.insistence import Insistence
from quakegrid.engine.driver.stops import End, StopReason
from quakegrid.engine.files.driver_files import SessionFileServing
from quakegrid.engine.files.told import ToldFiles
from quakegrid.engine.replay.driver_journals import DriverJournals, Origin
from quakegrid.engine.tasks.engine_task import EngineSetup
from quakegrid.engine.tasks.job_workers import JobWorkerMaster
from quakegrid.engine.tasks.starmaps import Starmaps
from quakegrid.nodes.fingerprint import Fingerprint
from quakegrid.session import worker_output
from quakegrid.session.options import HANG_GRACE_S, Needs, SessionOptions
from quakegrid.session.session import Session

# Of the jobs of one session before it begins, since their tasks may look them up.
MOST_LOOKED_UP = 10


class DriverProcess:
    """What the engine's calls do in a driver; holds its connections to broker, lane and dbserver.

    Args:
        events: stream to the waiting command line.
        fingerprint: what the nodes of its workers must have.
        origin: the request for this driver, as journals keep it.
        code_stamp: of all code that its template has loaded.
    """

    def __init__(
        self, events: Events, fingerprint: Fingerprint, origin: Origin, code_stamp: str = ""
    ) -> None:
        self.settings = this_process.settings()
        self._fingerprint = fingerprint
        self.events = events
        self.given_fds: Sequence[int] = ()  # what its request came with
        self.database = Database(self.settings, events.tell)
        assert self.settings.given is not None, "a driver is given a certificate"
        self._certificate = CertificateKeeper(
            self.settings.given, PeopleClient(self.database.client).renew_driver
        )
        self.files = SessionFileServing()
        self.starmaps = Starmaps(
            self._any_session, events.tell, self.database.known_jobs, self.files.of_starmaps
        )
        self.journals = DriverJournals(
            self.settings,
            origin,
            {**fingerprint, "the code": code_stamp},
            warn=partial(self.database.log, level="WARNING"),
            note=partial(self.database.log, level="INFO"),
            start_again=self._start_again,
        )
        self.session: Session | None = None
        self.weight, self.cores_per_worker = 1.0, 1
        self._insistence = Insistence(lambda: self.session is not None)

    def submit(self, starmap: Any, func: Any, args: Any, monitor: Any) -> None:
        """Send a task to the lane."""
        self.starmaps.submit(starmap, func, args, monitor)

    def open_socket(self, end_point: str, socket_type: int, mode: str, timeout: int) -> Any:
        """A channel to receive from, or a way back to one."""
        if mode == "bind":
            return self.starmaps.open_channel()
        if socket_type == zeromq.zmq.PUSH:
            return self.starmaps.loopback(end_point)
        return zeromq.Socket(end_point, socket_type, mode, timeout)

    def dbcmd(self, action: str, *args: Any) -> Any:
        """Call the dbserver."""
        if action == "finish":  # a signal has done its work: the engine ends the job in peace
            self._insistence.end()
            if args[1] == "complete":
                self.journals.check_over()
        elif action == "create_job":
            self.journals.close_for("it makes further jobs, which get other numbers when it runs again")
        return self.database.call(action, *args)

    def worker_master(self) -> JobWorkerMaster:
        """Control of the fleet."""
        warn = partial(self.database.warn, self.database.job_ids)
        return JobWorkerMaster(self.settings, self.end_session, warn)

    @contextlib.contextmanager
    def session_of(self, job_ids: Sequence[int]) -> Iterator[None]:
        """Hold a session while jobs run; waits for their turn."""
        self.end_session()
        self.database.stop = StopReason()  # an earlier interrupt, as in a shell, is not ours
        self.session = self._open_session(job_ids)
        try:
            self.session.wait_for_turn(
                lambda ahead: self._on_queued(job_ids, ahead),
                lambda words: self.database.log_words(job_ids, words),
            )
            self.events.tell_placed()
            self.files.serve(self.session, partial(self.database.warn, job_ids))
            yield
        except BaseException as exc:
            self._insistence.end()
            self.end_jobs(job_ids, self.judge(exc))
            raise
        finally:
            self.end_session()

    def judge(self, exc: BaseException) -> End:
        """The end of jobs that this exception leaves unfinished."""
        return stops.judge(exc, self.database.stop.text)

    def note_signal(self, number: int) -> None:
        """Remember why we are told to stop, in words for the job's record."""
        reason = self.session.abort_reason if self.session else ""
        if not reason and number == signal.SIGTERM and self.events.is_abandoned():
            reason = stops.COMMAND_GONE
        self.database.stop.note(reason or stops.SIGNAL_WORDS[signal.Signals(number)])

    def stop(self, number: int, _frame: FrameType | None) -> NoReturn:
        """Handle a signal while the engine has no handler of its own."""
        self.note_signal(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def insist(self, number: int) -> None:
        """Repeat a signal until the calculation has stopped and the engine ends its job.

        The engine raises in its handler, and Python swallows that when it happens to run a callback.
        """
        self._insistence.begin(number)

    def end_session(self) -> None:
        """Close the session, if one is open."""
        session, self.session = self.session, None
        self._insistence.end()  # after that: no signal begins to be repeated any more
        self.files.close()
        if session:
            session.close()

    def _start_again(self) -> NoReturn:
        """End at once, with an exit code by which the agent starts another driver for the same jobs."""
        with contextlib.suppress(errors.QuakeGridError):
            self.database.flush()
        self.events.close()
        os._exit(errors.EXIT_AGAIN)

    def close(self, end: End) -> None:
        """Let go of broker and dbserver; jobs that were made here and have not ended get this end.

        Raises:
            SystemExit: the dbserver did not hear of it, which was told.
        """
        self.end_session()
        self.journals.close()
        self._certificate.close()
        try:
            self.end_jobs(self.database.job_ids, end)
            self.database.close()
        except errors.QuakeGridError as exc:
            message = f"the dbserver did not hear how the calculation ended: {exc}"
            self.events.tell({"event": "error", "message": message, "job_id": None})
            print(f"quakegrid: {message}", file=sys.stderr)
            raise SystemExit(exc.exit_code) from exc
        finally:
            self.events.close()

    def end_jobs(self, job_ids: Sequence[int], end: End) -> None:
        """Give the jobs that have not ended, or never began, their final state and its reason."""
        for job_id in job_ids:
            job = self.database.call("get_job", job_id)
            if job is not None and job.status not in commands.FINAL_STATES:
                self.database.end(job_id, end)

    def _any_session(self) -> Session:
        if self.session is None:
            self.session = self._open_session(())
            self.session.wait_for_turn(lambda ahead: self._on_queued((), ahead), worker_output.echo)
            self.files.serve(self.session, partial(self.database.warn, ()))
        return self.session

    def _open_session(self, job_ids: Sequence[int]) -> Session:
        for job_id in job_ids[:MOST_LOOKED_UP]:
            self.database.look_up(job_id)
        setup = _worker_setup(self.database.known_jobs.for_setup(), self.files.told())
        options = SessionOptions(
            user_name=getpass.getuser(),
            worker_setup=pickle.dumps(setup),
            job_ids=job_ids,
            is_local=parallel.oq_distribute() != "zmq",
            weight=self.weight,
            cores_per_worker=self.cores_per_worker,
            needs=Needs(self._fingerprint, partial(self.database.warn, job_ids)),
            hang_grace_s=HANG_GRACE_S,
        )
        return Session(self.settings, options)

    def _on_queued(self, job_ids: Sequence[int], ahead: Sequence[int]) -> None:
        for job_id in job_ids:
            self.database.call("update_job", job_id, {"status": "submitted", "pid": os.getpid()})
        self.events.tell_placed()
        reason = self.session.wait_reason if self.session else ""
        print("Waiting for jobs", *ahead, *([f"({reason})"] if reason else []), flush=True)
        self.events.tell({"event": "queued", "ahead_job_ids": list(ahead), "reason": reason})


def _worker_setup(jobs: Mapping[int, Any], files: ToldFiles) -> EngineSetup:
    """What the workers of a session begin with: the driver's configuration, as they read no file.

    Args:
        jobs: see `EngineSetup`.
        files: see there, too.
    """
    environ = {
        key: value for key, value in os.environ.items() if key.startswith("OQ_") and key != "OQ_CONFIG_FILE"
    }
    python_path = os.environ.get("PYTHONPATH", "")
    return EngineSetup(configuration.exported(), environ, python_path, socket.gethostname(), jobs, files)
