"""Wraps functions of the engine that run a calculation: with its session, hold, signals and events."""

from __future__ import annotations

import datetime
import functools
import json
import logging
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

from openquake.baselib import general
from openquake.commonlib import logs

from quakegrid.engine import this_process, versions
from quakegrid.engine.driver import stops
from quakegrid.engine.driver.process import DriverProcess
from quakegrid.engine.tasks import late_exports
from quakegrid.notify import delivery, outside


def insist_on_signals(original: Any) -> Any:
    """Upstream's signal handler, which raises; see `DriverProcess.insist`."""

    def manage_signals(job_id: int, number: int, frame: FrameType | None) -> None:
        driver = this_process.current()
        if isinstance(driver, DriverProcess) and number in stops.SIGNAL_WORDS:
            driver.note_signal(number)
            if number != signal.SIGHUP:
                driver.insist(number)
        original(job_id, number, frame)

    return manage_signals


def tell_version(original: Any) -> Any:
    """Upstream's look for a newer version on its web site, without the look: the log names its own."""

    @functools.wraps(original)
    def check_obsolete_version(calculation_mode: str = "") -> None:  # noqa: ARG001 - upstream's name
        logging.info("Using engine version %s", general.engine_version())  # noqa: LOG015 - the job's log

    return check_obsolete_version


def tell_outside(original: Any) -> Any:
    """Upstream's POST of the end of a job: to hosts outside, and to those that the settings allow.

    It is a URL: a command would run as the account of this driver.
    """

    @functools.wraps(original)
    def notify_job_complete(job_id: int, notify_to: str | None, exc: Exception | None = None) -> None:
        if not notify_to:
            return
        settings = this_process.settings()
        row = logs.get_job_info(job_id) | {"error": str(exc) if exc else None}
        is_allowed = notify_to in settings.notify or outside.allows(notify_to, settings.notify_hosts)
        document = json.dumps(row, default=str).encode()
        failure = delivery.deliver_url(notify_to, document, is_guarded=not is_allowed)
        if failure:
            # The engine has left the job's log by now.
            logs.dbcmd("log", job_id, datetime.datetime.now(datetime.UTC), "WARNING", "notify", failure)

    return notify_job_complete


def run_jobs_in_session(original: Any) -> Any:
    """Upstream's `run_jobs`, holding a session; jobs of one call run one after the other."""

    def run_jobs(
        jobctxs: Sequence[Any],
        concurrent_jobs: int | None = None,  # noqa: ARG001 - upstream would start unseamed processes
        nodes: int = 1,
        sbatch: bool = False,
        notify_to: str | None = None,
        precalc: bool = False,
    ) -> Any:
        driver = this_process.current()
        assert isinstance(driver, DriverProcess)
        job_ids = [job.calc_id for job in jobctxs]
        kept = {"precalc": precalc, "notify_to": notify_to, "weight": driver.weight}
        driver.journals.open(jobctxs, kept | {"cores_per_worker": driver.cores_per_worker})
        with driver.database.hold_jobs(job_ids), driver.session_of(job_ids):
            options = {"nodes": nodes, "sbatch": sbatch, "notify_to": notify_to, "precalc": precalc}
            return versions.call(original, jobctxs, versions.CONCURRENT_JOBS, **options)

    return run_jobs


def tell_of_inputs(calculator_class: Any) -> Any:
    """Upstream's hazard calculator, which tells the command line when it has read its inputs.

    Every calculator calls `save_crmodel` then, in whichever way it got its inputs.
    """
    original = calculator_class.save_crmodel

    def save_crmodel(calculator: Any) -> None:
        driver = this_process.current()
        if isinstance(driver, DriverProcess):
            driver.events.tell({"event": "inputs_read", "job_id": calculator.datastore.calc_id})
        original(calculator)

    calculator_class.save_crmodel = save_crmodel
    return calculator_class


def put_off_ruptures(calculator_class: Any) -> Any:
    """Upstream's hazard calculator, which exports ruptures inside a risk calculation while its tasks run."""

    def late_export() -> late_exports.LateExport | None:
        driver = this_process.current()
        return driver.starmaps.late_export if isinstance(driver, DriverProcess) else None

    late_exports.Calculators(late_export).put_off(calculator_class)
    return calculator_class
