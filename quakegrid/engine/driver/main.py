"""The main function of a driver, which the template's fork enters.

It takes over directory, environment and terminal of the command line that waits for it, then works in one of
two modes: `run_mode` for `quakegrid run` and exports, `oq_mode` for upstream's command line, unchanged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from typing import Any

from openquake.baselib import general

from quakegrid import errors
from quakegrid.clients import drivers
from quakegrid.clients.dbserver import driver_certificate
from quakegrid.engine import configuration, kernel_caches, seams, this_process
from quakegrid.engine.driver import log_output, oq_mode, run_mode, stops
from quakegrid.engine.driver.event_stream import Events
from quakegrid.engine.driver.process import DriverProcess
from quakegrid.engine.driver.stops import End
from quakegrid.engine.replay import digests, driver_journals, resume_mode
from quakegrid.nodes.fingerprint import Fingerprint
from quakegrid.notify import ends
from quakegrid.settings.config import AGENT_MARK


def main(request: dict[str, Any], events_fd: int, *, fingerprint: Fingerprint, code_stamp: str = "") -> int:
    """Be the driver that a command line asked for; returns the exit code.

    Args:
        request: `argv`, `cwd`, `environ`, `mode` ("oq", "run" or "notify"), `is_detachable`, `jobs_fd`,
            `given_fds`, the `person` whose driver this is, and its certificate, `proof`; for "notify"
            `job_ids` and `notify`.
        events_fd: socket for events.
        fingerprint: what its workers' nodes must have, which is what the template had when it loaded.
        code_stamp: of all code that the template has loaded.
    """
    if request["mode"] == "notify":
        return _notify(request)
    is_run = request["mode"] == "run"
    if is_run:
        log_output.take_over()
        print(f"driver {os.getpid()} of {request['cwd']}: {' '.join(request['argv'])}")
    events = Events(
        events_fd, is_wanted=is_run, is_detachable=request["is_detachable"], jobs_fd=request["jobs_fd"]
    )
    try:
        _take_proof(request)
        if request["argv"][:1] == [resume_mode.COMMAND] and is_run:
            request = resume_mode.request_of(request, this_process.settings())
        _enter(request)
        digests.settle_process()
        driver = DriverProcess(events, fingerprint, driver_journals.origin_of(request), code_stamp)
        driver.given_fds = request.get("given_fds", ())  # a request that goes on has none
    except Exception as exc:  # noqa: BLE001 - told to the person who waits
        message = f"the driver could not start: {stops.one_line(exc)}"
        events.tell({"event": "error", "message": message, "job_id": None})
        print(f"quakegrid: {message}", file=sys.stderr)
        events.close()
        return exc.exit_code if isinstance(exc, errors.QuakeGridError) else errors.EXIT_FAILED
    this_process.become(driver)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # until the engine registers its own
        signal.signal(number, driver.stop)
    end = End("failed", "its driver ended before it ran")
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        return run_mode.main(request["argv"], driver) if is_run else oq_mode.main(request["argv"])
    except BaseException as exc:
        end = driver.judge(exc)
        raise
    finally:
        driver.close(end)
        general.removetmp()  # upstream's own, which it leaves to `atexit`; a fork has none


def _take_proof(request: dict[str, Any]) -> None:
    """Show the services the certificate of this driver."""
    given = driver_certificate.read(request["proof"])
    this_process.prepare(dataclasses.replace(this_process.settings(), given=given))


def _notify(request: dict[str, Any]) -> int:
    """Tell the ends of the jobs of a driver that has ended; needs nothing of the engine."""
    log_output.take_over()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    _take_proof(request)
    settings = this_process.settings()
    os.environ.clear()
    os.environ.update(request["environ"])
    with contextlib.suppress(OSError):  # the folder is gone, or not for us; the command may not need it
        os.chdir(request["cwd"])
    is_sent = request.get("is_from_elsewhere", False)
    return ends.tell(settings, request["job_ids"], request["notify"], is_from_elsewhere=is_sent)


def _enter(request: dict[str, Any]) -> None:
    """Take over the caller's directory, environment and configuration."""
    own = ("_NUM_THREADS", AGENT_MARK)
    kept = {key: value for key, value in os.environ.items() if key.endswith(own)}
    os.environ.clear()
    # `getpass.getuser`, by which the engine knows whose jobs are one's own, looks for LOGNAME first.
    os.environ.update({"OQ_DISTRIBUTE": "zmq"} | request["environ"] | kept | {"LOGNAME": request["person"]})
    try:
        os.chdir(request["cwd"])
    except OSError as exc:
        raise errors.UsageError(drivers.no_folder(request["cwd"], exc)) from exc
    configuration.extend_path(os.environ.get("PYTHONPATH", ""))
    configuration.read(os.environ)
    configuration.take_temporary_folder()
    if "NUMBA_DISABLE_JIT" in os.environ:
        print("NUMBA_DISABLE_JIT has no effect here: the engine is imported already", file=sys.stderr)
    seams.install(seams.OF_ONE_DRIVER)
    kernel_caches.use_own_folder()
