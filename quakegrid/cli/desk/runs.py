"""`quakegrid run` with a credential: sends the inputs, follows the calculation, and brings its exports.

It is followed as `attach` does, over gRPC, which goes on by itself after a broken link.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quakegrid import errors
from quakegrid.cli.following import keyboard, loop
from quakegrid.cli.following.interrupts import Interrupts
from quakegrid.cli.following.job_source import JobSource
from quakegrid.cli.following.report_view import ReportView
from quakegrid.cli.views import render, transfer
from quakegrid.cli.views.run_report import RunReport
from quakegrid.cli.views.transfer import Transfer
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.job_events import JobEvents
from quakegrid.clients.web import calculations, results, web_client
from quakegrid.clients.web.calculations import WebWishes
from quakegrid.clients.web.web_client import WebClient
from quakegrid.inputs import parcel
from quakegrid.inputs.parcel import InputParcel

if TYPE_CHECKING:
    from quakegrid.cli.run import RunPlan
    from quakegrid.settings.config import Settings

# How long a calculation is followed on while the dbserver is away.
RETRY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Manner:
    """How a command runs calculations.

    Args:
        notify: addresses that are told the ends.
        verbose: show all of the log, and the names of files.
        detaches: leave each calculation as soon as it was accepted.
    """

    notify: tuple[str, ...] = ()
    verbose: bool = False
    detaches: bool = False


def execute(settings: Settings, plan: RunPlan, manner: Manner) -> RunReport:
    """Run the calculation of a plan on the cluster of a credential.

    Raises:
        UsageError: something is asked for that works on the master only, or the files are refused.
        PeerUnreachableError: the master does not answer.
    """
    hazard_job_id = _check(plan, manner)
    report, start_s = RunReport(), time.monotonic()
    code = errors.EXIT_CLEAN
    with web_client.open_web(settings) as web:
        for job_ini in plan.job_inis:
            found = parcel.make(Path(job_ini))
            job_id = _start(web, found, _wishes(plan, manner, hazard_job_id), manner)
            if manner.detaches:
                _note(settings, report, job_id)
                report.leave(0, time.monotonic() - start_s)
                return report
            ending = _follow(settings, report, job_id, verbose=manner.verbose)
            if ending.code is None:
                report.leave(ending.signal_number, time.monotonic() - start_s)
                return report
            code = ending.code or _bring(web, report, job_id, plan, found)
            if code:
                break
            hazard_job_id = hazard_job_id or job_id
    report.close(code, time.monotonic() - start_s)
    return report


def _check(plan: RunPlan, manner: Manner) -> int | None:
    """Refuse what works on the master only; the calculation to start from, if there is one.

    Raises:
        UsageError: with what to do.
    """
    if len(plan.job_inis) > 1 and manner.detaches:
        raise errors.UsageError(
            "--detach takes one job file here; start the next one by --hc when it is done"
        )
    for target in manner.notify:
        if not target.startswith(("http://", "https://")):
            raise errors.UsageError(
                f"--notify {target}: a command would run on the master; give an address here, or wait: "
                "`quakegrid jobs wait ID && …`"
            )
    if plan.hc is None:
        return None
    if not plan.hc.isdigit():
        raise errors.UsageError(f"--hc {plan.hc}: give the number of a calculation of the cluster")
    return int(plan.hc)


def _wishes(plan: RunPlan, manner: Manner, hazard_job_id: int | None) -> WebWishes:
    return WebWishes(
        hazard_job_id=hazard_job_id,
        params=dict(param.split("=", 1) for param in plan.params),
        weight=plan.weight,
        cores_per_worker=plan.cores_per_worker,
        notify=manner.notify,
    )


def _start(web: WebClient, found: InputParcel, wishes: WebWishes, manner: Manner) -> int:
    """Send the files and start; says what goes where."""
    outside = f", {found.outside_count} of them outside of its folder" if found.outside_count else ""
    render.say(
        f"{found.items[0].path.name}: {transfer.files_text(len(found.items), found.size_bytes)}{outside}"
    )
    if manner.verbose:
        for item in found.items:
            render.say(f"  {item.name} ({transfer.bytes_text(item.size_bytes)})")
    with Transfer("sending", f"; {web.address} has the rest") as progress:
        try:
            return calculations.send_and_start(web, found, wishes, progress)
        except KeyboardInterrupt:
            render.say("what was sent stays for the next time; `quakegrid jobs list` shows what runs")
            raise


def _note(settings: Settings, report: RunReport, job_id: int) -> None:
    with DbClient(settings, retry_s=RETRY_S) as database:
        job = database.jobs.get_job(job_id)
    event = {"event": "job", "job_id": job_id, "description": job.description}
    report.take(event | {"calculation_mode": job.calculation_mode})


def _follow(settings: Settings, report: RunReport, job_id: int, *, verbose: bool) -> loop.Ending:
    """Follow a calculation until it ends or is left."""
    interrupts = Interrupts(keyboard.is_interactive())
    view = ReportView(report, interrupts, verbose=verbose)
    try:
        with DbClient(settings, retry_s=RETRY_S) as database:
            job = database.jobs.get_job(job_id)
            events = JobEvents(settings, database, job, verbose=True)
            with JobSource(events) as source:
                return loop.follow(source, interrupts, view)
    finally:
        view.close()


def _bring(web: WebClient, report: RunReport, job_id: int, plan: RunPlan, found: InputParcel) -> int:
    """Bring what was wanted of a complete calculation; an exit code."""
    formats = results.split_formats(plan.exports or ("csv" if plan.export_dir else ""))
    if not formats:
        return errors.EXIT_CLEAN
    folder = plan.export_dir.expanduser().absolute() if plan.export_dir else found.export_dir
    return export(web, report, job_id, folder, formats)


def export(web: WebClient, report: RunReport, job_id: int, folder: Path, formats: list[str]) -> int:
    """Bring the outputs of a calculation into a folder, and note them in a report; an exit code."""
    try:
        brought = results.export(web, job_id, folder, formats)
    except errors.QuakeGridError as exc:
        report.error = str(exc)
        return exc.exit_code
    report.take({"event": "exported", "paths": brought.paths})
    report.take({"event": "not_exported", "failures": brought.failures})
    return errors.EXIT_FAILED if brought.failures else errors.EXIT_CLEAN
