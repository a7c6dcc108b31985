"""The driver: runs the engine's own master side of a command, forked from the template.

`preload` runs once in the template; `main` in each forked driver. In mode "oq" it is upstream's command
line, unchanged; in mode "run" it runs calculations and tells the waiting command line what happens.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import importlib
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from openquake.baselib import general, parallel, zeromq
from openquake.commonlib import logs

from quakegrid import engine_version, errors, worker_words
from quakegrid.config import AGENT_MARK, Settings
from quakegrid.engine import commands, failures, log_output, seams
from quakegrid.engine.database import Database
from quakegrid.engine.events import Events
from quakegrid.engine.starmaps import Starmaps
from quakegrid.engine.tasks import EngineSetup
from quakegrid.engine.workers import FleetMaster
from quakegrid.fingerprint import Fingerprint
from quakegrid.lane_tasks import Needs
from quakegrid.session import Session

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
INSIST_INTERVAL_S = 0.5


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

    engine.poll_queue = lambda job_id, poll_time: None  # noqa: ARG005 - the broker's admission is the queue
    engine.run_jobs = _run_jobs_in_session(engine.run_jobs)
    engine.manage_signals = _insisting(engine.manage_signals)
    from openquake.server import dbserver  # noqa: PLC0415

    dbserver.ensure_on = lambda: None
    dbserver.check_foreign = lambda: None
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
        self._calm = threading.Event()

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
        return self.database.call(action, *args)

    def worker_master(self) -> FleetMaster:
        """Control of the fleet."""
        warn = partial(self.database.warn, self.database.job_ids)
        return FleetMaster(self.settings, self.end_session, warn)

    @contextlib.contextmanager
    def session_of(self, job_ids: Sequence[int]) -> Iterator[None]:
        """Hold a session while jobs run; waits for their turn."""
        self.end_session()
        self.session = self._open_session(job_ids)
        try:
            self.session.wait_for_turn(
                lambda ahead: self._on_queued(job_ids, ahead),
                lambda words: self.database.log_words(job_ids, words),
            )
            yield
        except BaseException as exc:
            self._calm.set()
            self.end_jobs(job_ids, "aborted" if isinstance(exc, KeyboardInterrupt | SystemExit) else "failed")
            raise
        finally:
            self.end_session()

    def insist(self, number: int) -> None:
        """Repeat a signal until it has stopped the calculation.

        The engine raises in its handler, and Python swallows that when it happens to run a callback.
        """
        if any(thread.name == "insist" for thread in threading.enumerate()):
            return

        def repeat() -> None:
            while not self._calm.wait(INSIST_INTERVAL_S):
                os.kill(os.getpid(), number)

        threading.Thread(target=repeat, name="insist", daemon=True).start()

    def end_session(self) -> None:
        """Close the session, if one is open."""
        session, self.session = self.session, None
        if session:
            session.close()

    def close(self, state: str) -> None:
        """Let go of broker and dbserver; jobs that were made here and have not ended get `state`."""
        self.end_session()
        self.end_jobs(self.database.job_ids, state)
        self.database.close()
        self.events.close()

    def end_jobs(self, job_ids: Sequence[int], state: str) -> None:
        """Give the jobs that have not ended, or never began, their final state."""
        for job_id in job_ids:
            job = self.database.call("get_job", job_id)
            if job is not None and job.status not in commands.FINAL_STATES:
                self.database.call("finish", job_id, state)

    def _any_session(self) -> Session:
        if self.session is None:
            self.session = self._open_session(())
            self.session.wait_for_turn(lambda ahead: self._on_queued((), ahead), worker_words.echo)
        return self.session

    def _open_session(self, job_ids: Sequence[int]) -> Session:
        environ = {key: value for key, value in os.environ.items() if key.startswith("OQ_")}
        python_path = os.environ.get("PYTHONPATH", "")
        setup = EngineSetup(seams.exported_config(), environ, python_path, socket.gethostname())
        return Session(
            self.settings,
            job_ids,
            user_name=getpass.getuser(),
            worker_setup=pickle.dumps(setup),
            is_local=parallel.oq_distribute() != "zmq",
            weight=self.weight,
            cores_per_worker=self.cores_per_worker,
            needs=Needs(self._fingerprint, partial(self.database.warn, job_ids)),
        )

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
    if request["mode"] == "run":
        log_output.take_over()
    _enter(request)
    events = Events(events_fd, is_wanted=request["mode"] == "run")
    driver = DriverProcess(events, fingerprint)
    seams.become(driver)
    signal.signal(signal.SIGTERM, _raise_stopped)  # until the engine registers its own
    state = "failed"
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        if request["mode"] == "run":
            return _run(request["argv"], driver)
        return _oq(request["argv"])
    except (KeyboardInterrupt, SystemExit):
        state = "aborted"
        raise
    finally:
        driver.close(state)
        general.removetmp()  # upstream's own, which it leaves to `atexit`; a fork has none


def _raise_stopped(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _enter(request: dict[str, Any]) -> None:
    """Take over the caller's directory, environment and configuration."""
    own = ("_NUM_THREADS", AGENT_MARK)
    kept = {key: value for key, value in os.environ.items() if key.endswith(own)}
    os.environ.clear()
    os.environ.update({"OQ_DISTRIBUTE": "zmq"} | request["environ"] | kept)
    os.chdir(request["cwd"])
    seams.extend_path(os.environ.get("PYTHONPATH", ""))
    seams.read_config(os.environ)
    seams.take_temporary_folder()
    if "NUMBA_DISABLE_JIT" in os.environ:
        print("NUMBA_DISABLE_JIT has no effect here: the engine is imported already", file=sys.stderr)
    from openquake.engine import engine  # noqa: PLC0415

    purge: Any = importlib.import_module("openquake.commands.purge")
    purge.datadir = logs.get_datadir()
    engine._PID = os.getpid()  # noqa: SLF001 - read at import, in the template
    engine._PPID = -1  # noqa: SLF001 - a SIGHUP that reaches us means that the terminal is gone


def _oq(argv: Sequence[str]) -> int:
    """Upstream's command line."""
    from openquake.commands.__main__ import oq  # noqa: PLC0415

    sys.argv = ["oq", *argv]
    try:
        oq()
    except errors.QuakeGridError as exc:
        print(f"quakegrid: {exc}", file=sys.stderr)
        return exc.exit_code
    return 0


def _insisting(original: Any) -> Any:
    """Upstream's signal handler, which raises; see `DriverProcess.insist`."""

    def manage_signals(job_id: int, number: int, frame: FrameType | None) -> None:
        driver = seams.process()
        if isinstance(driver, DriverProcess) and number in (signal.SIGINT, signal.SIGTERM):
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


# --- mode "run"


def _parse_run(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quakegrid run")
    parser.add_argument("engine")
    parser.add_argument("--run", nargs="+", required=True)
    parser.add_argument("--hazard-calculation-id", "--hc")
    parser.add_argument("--exports", default="")
    parser.add_argument("--export-dir")
    parser.add_argument("--param", "-p", default="")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--cores-per-worker", type=int, default=1)
    return parser.parse_args(argv)


def _run(argv: Sequence[str], driver: DriverProcess) -> int:
    args = _parse_run(argv)
    driver.weight, driver.cores_per_worker = args.weight, args.cores_per_worker
    try:
        _calculate(args, driver)
    except KeyboardInterrupt as exc:
        driver.end_jobs(driver.database.job_ids, "aborted")
        return _report_end(driver, exc, 4)
    except SystemExit as exc:
        driver.end_jobs(driver.database.job_ids, "aborted")
        return _report_end(driver, exc, 4 if driver.database.job_ids else 2)
    except errors.QuakeGridError as exc:
        return _report_end(driver, exc, exc.exit_code)
    except Exception as exc:  # noqa: BLE001 - told to the person who waits
        return _report_end(driver, exc, 1 if driver.database.job_ids else 2)
    return _report_end(driver, None, 0, args.export_dir)


def _calculate(args: argparse.Namespace, driver: DriverProcess) -> None:
    """What upstream's `oq engine --run` does, with an export directory."""
    from openquake.engine import engine  # noqa: PLC0415
    from openquake.hazardlib import valid  # noqa: PLC0415

    Path(logs.get_datadir()).mkdir(parents=True, exist_ok=True)
    parameters = dict(item.split("=", 1) for item in args.param.split(",")) if args.param else {}
    hc_id = None if args.hazard_calculation_id is None else valid.calculation(args.hazard_calculation_id)
    if isinstance(hc_id, int):
        parent = driver.database.call("get_job", hc_id, getpass.getuser() if hc_id == -1 else None)
        if parent is None:
            raise errors.NotFoundError(f"there is no job {hc_id} to start from (--hc)")
        hc_id = parent.id
    try:
        jobs = engine.create_jobs(args.run, args.log_level, None, getpass.getuser(), hc_id)
    except errors.QuakeGridError:
        raise
    except Exception as exc:
        raise errors.UsageError(f"cannot read {' '.join(args.run)}: {failures.one_line(exc)}") from exc
    for job in jobs:
        job.params.update(parameters)
        job.params["exports"] = args.exports
        if args.export_dir:
            job.params["export_dir"] = str(Path(args.export_dir).absolute())
    engine.run_jobs(jobs, precalc=hc_id is None)


def _report_end(
    driver: DriverProcess, exc: BaseException | None, code: int, export_dir: str | None = None
) -> int:
    """Tell how each job ended, and what went wrong."""
    driver.end_session()
    if exc is not None and not isinstance(exc, KeyboardInterrupt):
        job_id = driver.database.job_ids[-1] if driver.database.job_ids else None
        message = failures.one_line(exc) + failures.disk_hint()
        driver.events.tell({"event": "error", "message": message, "job_id": job_id})
    for job_id in driver.database.job_ids:
        job = driver.database.call("get_job", job_id)
        outputs = driver.database.call("get_outputs", job_id)
        rows = [[str(each.id), each.display_name, each.ds_key] for each in outputs]
        datastore = f"{job.ds_calc_dir}.hdf5"
        driver.events.tell(
            {
                "event": "end",
                "job_id": job_id,
                "state": job.status,
                "datastore": datastore,
                "outputs": rows,
            }
        )
        if export_dir:
            paths = sorted(str(path) for path in Path(export_dir).glob(f"*_{job_id}.*"))
            driver.events.tell({"event": "exported", "job_id": job_id, "paths": paths})
    return code
