"""The driver: runs the engine's own master side of a command, forked from the template.

`preload` runs once in the template; `main` in each forked driver. In mode "oq" it is upstream's command
line, unchanged; mode "run" is in `run_mode`.
"""

from __future__ import annotations

import contextlib
import getpass
import importlib
import os
import pickle
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from openquake.baselib import general, parallel, zeromq
from openquake.calculators import export as engine_export
from openquake.commonlib import logs

from quakegrid import errors
from quakegrid.clients import drivers
from quakegrid.engine import attributes, seams
from quakegrid.engine.database.dbcmd import Database
from quakegrid.engine.driver import commands, exports, log_output, refusals, run_mode, stops
from quakegrid.engine.driver.event_stream import Events
from quakegrid.engine.driver.insistence import Insistence
from quakegrid.engine.driver.stops import End, StopReason
from quakegrid.engine.tasks.engine_task import EngineSetup
from quakegrid.engine.tasks.job_workers import FleetMaster
from quakegrid.engine.tasks.starmaps import Starmaps
from quakegrid.install import machine
from quakegrid.nodes import engine_version
from quakegrid.nodes.fingerprint import Fingerprint
from quakegrid.session import worker_output
from quakegrid.session.options import Needs, SessionOptions
from quakegrid.session.session import Session
from quakegrid.settings.config import AGENT_MARK, Settings

PRELOADED_COMMANDS = (
    "engine",
    "show",
    "export",
    "extract",
    "run",
    "workers",
    "info",
    "abort",
    "db",
    "purge",
    "reset",
)
EXIT_FAILED = 1


def preload(settings: Settings) -> str:
    """Import the engine with the seams in place; returns its version.

    Raises:
        EngineMissingError: not installed, or not a version that we know.
    """
    version = engine_version.check_engine()
    seams.install(settings)
    seams.read_config(os.environ)
    commands.close_database()
    from openquake.engine import engine  # noqa: PLC0415 - after the seams

    exports.take_over(engine_export.export)
    attributes.replace(engine, "poll_queue", _do_nothing)  # the broker's admission is the queue
    attributes.replace(engine, "run_jobs", _run_jobs_in_session(engine.run_jobs))
    attributes.replace(engine, "manage_signals", _insisting(engine.manage_signals))
    from openquake.server import dbserver  # noqa: PLC0415

    attributes.replace(dbserver, "ensure_on", _do_nothing)
    attributes.replace(dbserver, "check_foreign", _do_nothing)
    importlib.import_module("openquake.commands.__main__")
    commands.replace_commands()  # `openquake.commands.engine` imports one of them by name
    for name in PRELOADED_COMMANDS:
        importlib.import_module(f"openquake.commands.{name}")
    return version


class DriverProcess:
    """Behind the seams of a driver.

    Args:
        events: stream to the waiting command line.
        fingerprint: what the nodes of its workers must have.
    """

    def __init__(self, events: Events, fingerprint: Fingerprint) -> None:
        self.settings = seams.settings()
        self._fingerprint = fingerprint
        self.events = events
        self.database = Database(self.settings, events.tell)
        self.starmaps = Starmaps(self._any_session, events.tell)
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
        return self.database.call(action, *args)

    def worker_master(self) -> FleetMaster:
        """Control of the fleet."""
        warn = partial(self.database.warn, self.database.job_ids)
        return FleetMaster(self.settings, self.end_session, warn)

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
            yield
        except BaseException as exc:
            self._insistence.end()
            self.end_jobs(job_ids, self.judge(exc))
            raise
        finally:
            self.end_session()

    def judge(self, exc: BaseException) -> End:
        """How jobs end that this exception leaves unfinished."""
        return stops.judge(exc, self.database.stop.text)

    def note_signal(self, number: int) -> None:
        """Remember why we are told to stop, in words for the job's record."""
        reason = self.session.abort_reason if self.session else ""
        if not reason and number == signal.SIGTERM and not self.events.has_reader():
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
        if session:
            session.close()

    def close(self, end: End) -> None:
        """Let go of broker and dbserver; jobs that were made here and have not ended get this end.

        Raises:
            SystemExit: the dbserver did not hear of it, which was told.
        """
        self.end_session()
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
        return self.session

    def _open_session(self, job_ids: Sequence[int]) -> Session:
        environ = {key: value for key, value in os.environ.items() if key.startswith("OQ_")}
        python_path = os.environ.get("PYTHONPATH", "")
        setup = EngineSetup(seams.exported_config(), environ, python_path, socket.gethostname())
        options = SessionOptions(
            user_name=getpass.getuser(),
            worker_setup=pickle.dumps(setup),
            job_ids=job_ids,
            is_local=parallel.oq_distribute() != "zmq",
            weight=self.weight,
            cores_per_worker=self.cores_per_worker,
            needs=Needs(self._fingerprint, partial(self.database.warn, job_ids)),
        )
        return Session(self.settings, options)

    def _on_queued(self, job_ids: Sequence[int], ahead: Sequence[int]) -> None:
        for job_id in job_ids:
            self.database.call("update_job", job_id, {"status": "submitted", "pid": os.getpid()})
        print("Waiting for jobs", *ahead, flush=True)
        self.events.tell({"event": "queued", "ahead_job_ids": list(ahead)})


def main(request: dict[str, Any], events_fd: int, *, fingerprint: Fingerprint) -> int:
    """Be the driver that a command line asked for; returns the exit code.

    Args:
        request: `argv`, `cwd`, `environ` and `mode` ("oq" or "run").
        events_fd: socket for events.
        fingerprint: what its workers' nodes must have, which is what the template had when it loaded.
    """
    is_run = request["mode"] == "run"
    if is_run:
        log_output.take_over()
        print(f"driver {os.getpid()} of {request['cwd']}: {' '.join(request['argv'])}")
    events = Events(events_fd, is_wanted=is_run)
    try:
        _enter(request)
        driver = DriverProcess(events, fingerprint)
    except Exception as exc:  # noqa: BLE001 - told to the person who waits
        message = f"the driver could not start: {stops.one_line(exc)}"
        events.tell({"event": "error", "message": message, "job_id": None})
        print(f"quakegrid: {message}", file=sys.stderr)
        events.close()
        return exc.exit_code if isinstance(exc, errors.QuakeGridError) else EXIT_FAILED
    seams.become(driver)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # until the engine registers its own
        signal.signal(number, driver.stop)
    end = End("failed", "its driver ended before it ran")
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        return run_mode.main(request["argv"], driver) if is_run else _oq(request["argv"])
    except BaseException as exc:
        end = driver.judge(exc)
        raise
    finally:
        driver.close(end)
        general.removetmp()  # upstream's own, which it leaves to `atexit`; a fork has none


def _do_nothing(*_args: object, **_options: object) -> None:
    """Stands in for what the cluster does by itself."""


def _enter(request: dict[str, Any]) -> None:
    """Take over the caller's directory, environment and configuration."""
    own = ("_NUM_THREADS", AGENT_MARK)
    kept = {key: value for key, value in os.environ.items() if key.endswith(own)}
    os.environ.clear()
    os.environ.update({"OQ_DISTRIBUTE": "zmq"} | request["environ"] | kept)
    try:
        os.chdir(request["cwd"])
    except OSError as exc:
        raise errors.UsageError(drivers.no_folder(request["cwd"], exc)) from exc
    seams.extend_path(os.environ.get("PYTHONPATH", ""))
    seams.read_config(os.environ)
    seams.take_temporary_folder()
    if "NUMBA_DISABLE_JIT" in os.environ:
        print("NUMBA_DISABLE_JIT has no effect here: the engine is imported already", file=sys.stderr)
    from openquake.engine import engine  # noqa: PLC0415

    purge: Any = importlib.import_module("openquake.commands.purge")
    attributes.replace(purge, "datadir", logs.get_datadir())
    attributes.replace(engine, "_PID", os.getpid())  # read at import, in the template
    attributes.replace(engine, "_PPID", -1)  # a SIGHUP that reaches us means that the terminal is gone


def _oq(argv: Sequence[str]) -> int:
    """Upstream's command line."""
    from openquake.commands.__main__ import oq  # noqa: PLC0415

    refusal = refusals.refusal(argv, is_installed=machine.NOTES.exists())
    if refusal:
        print(f"quakegrid: {refusal}", file=sys.stderr)
        return errors.UsageError.exit_code
    sys.argv = ["oq", *argv]
    try:
        oq()
    except errors.QuakeGridError as exc:
        print(f"quakegrid: {exc}", file=sys.stderr)
        return exc.exit_code
    return EXIT_FAILED if exports.tell_failures(engine_export.export) else 0


def _insisting(original: Any) -> Any:
    """Upstream's signal handler, which raises; see `DriverProcess.insist`."""

    def manage_signals(job_id: int, number: int, frame: FrameType | None) -> None:
        driver = seams.process()
        if isinstance(driver, DriverProcess) and number in stops.SIGNAL_WORDS:
            driver.note_signal(number)
            if number != signal.SIGHUP:
                driver.insist(number)
        original(job_id, number, frame)

    return manage_signals


def _run_jobs_in_session(original: Any) -> Any:
    """Upstream's `run_jobs`, holding a session; jobs of one call run one after the other."""

    def run_jobs(
        jobctxs: Sequence[Any],
        concurrent_jobs: int | None = None,  # noqa: ARG001 - upstream would start unseamed processes
        nodes: int = 1,
        sbatch: bool = False,
        notify_to: str | None = None,
        precalc: bool = False,
    ) -> Any:
        driver = seams.process()
        assert isinstance(driver, DriverProcess)
        job_ids = [job.calc_id for job in jobctxs]
        with driver.database.leases_of(job_ids), driver.session_of(job_ids):
            return original(jobctxs, 1, nodes, sbatch, notify_to, precalc)

    return run_jobs
