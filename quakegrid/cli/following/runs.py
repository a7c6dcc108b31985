"""Runs the engine in a driver and follows it: what `run` and `demo` do.

Nothing heavy is imported before the driver is at work: rich comes with its first event, and only on a
terminal; grpc never.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from quakegrid.cli.following import keyboard, loop
from quakegrid.cli.following.interrupts import Interrupts
from quakegrid.cli.following.report_view import ReportView
from quakegrid.cli.views.run_report import RunReport
from quakegrid.clients.detached_drivers import DetachedStart
from quakegrid.clients.drivers import DriverLink, DriverRequest

if TYPE_CHECKING:
    from quakegrid.settings.config import Settings


class DriverSource:
    """The events of a driver of this machine."""

    def __init__(self, link: DriverLink) -> None:
        self._link = link
        self.fileno, self.read, self.abort = link.fileno, link.read, link.signal


def execute(
    settings: Settings, request: DriverRequest, *, verbose: bool = False, detaches: bool = False
) -> RunReport:
    """Run the engine in a driver, showing what happens.

    Args:
        settings: of the cluster; its agent must run on this machine.
        request: what the driver is to do. If it is detachable, a person may leave the calculation.
        verbose: show all of the log.
        detaches: leave the calculation as soon as its jobs have read their inputs, or wait for their turn.
    Raises:
        PeerUnreachableError: the agent is not running.
        StateError: the calculation is to be left, and the agent is too old for that.
    """
    report, start = RunReport(), DetachedStart()
    interrupts = Interrupts(keyboard.is_interactive() and request.is_detachable and not detaches)
    view = ReportView(report, interrupts, verbose=verbose)
    start_s = time.monotonic()
    try:
        with DriverLink(settings, request) as link:
            is_enough = start.take if detaches else lambda _: False
            ending = loop.follow(DriverSource(link), interrupts, view, is_enough)
    finally:
        view.close()
    if ending.code is None:
        report.leave(ending.signal_number, time.monotonic() - start_s)
        return report
    _ask_for_ends(settings, report)
    report.close(ending.code, time.monotonic() - start_s)
    return report


def _ask_for_ends(settings: Settings, report: RunReport) -> None:
    """Ask the dbserver for the ends of jobs whose driver died before it told them."""
    if not report.open_job_ids() or not settings.proof:
        return
    from quakegrid.clients.dbserver.client import DbClient  # noqa: PLC0415 - seldom needed
    from quakegrid.jobs.states import JobState  # noqa: PLC0415 - seldom needed

    with DbClient(settings) as database:
        for job_id in report.open_job_ids():
            job = database.jobs.get_job(job_id)
            if job.state is JobState.COMPLETE:
                outputs = [
                    [each.id, each.display_name, each.ds_key]
                    for each in database.outputs.list_outputs(job_id)
                ]
                datastore = f"{job.ds_calc_dir}.hdf5"
                ended = {"event": "end", "job_id": job_id, "state": "complete", "datastore": datastore}
                report.take({**ended, "outputs": outputs})
            elif job.state in (JobState.ABORTED, JobState.FAILED):
                report.jobs[job_id].state = str(job.state)
                report.jobs[job_id].error = job.state_reason or None
