"""Command `attach`: follows a calculation again, from any machine, until its end."""

from __future__ import annotations

import datetime

import click

from quakegrid.cli import options, run
from quakegrid.cli.following import keyboard, loop
from quakegrid.cli.following.interrupts import Interrupts
from quakegrid.cli.following.job_source import JobSource
from quakegrid.cli.following.report_view import ReportView
from quakegrid.cli.views.run_report import RunReport
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.values import Job
from quakegrid.settings.config import Settings

# How long the command waits for a dbserver that is away.
RETRY_S = 300.0


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@click.option("-v", "--verbose", is_flag=True, help="Show all of the log from level INFO, from its start.")
@options.output_option
def attach(job_id: int, verbose: bool, output: str) -> None:
    """Follow a calculation again, until its end.

    Works from any machine, wherever the calculation was started. Shows the last lines of its log, how far its
    operations are, and what comes. For a calculation that has ended, prints its result.

    On a terminal, Ctrl-C asks whether to abort the calculation, or to leave it again. In a script, Ctrl-C
    aborts it. If it is not yours, Ctrl-C leaves it.

    Ends with the exit code of the calculation: 0 complete, 1 failed, 4 aborted.
    """
    settings = options.cluster_settings()
    with DbClient(settings, retry_s=RETRY_S) as database:
        job = own_jobs.own_job(database, job_id)
        is_own = own_jobs.is_own(database, job)
        report = follow(settings, database, job, may_abort=is_own, verbose=verbose)
    if report.is_left:
        run.print_left(report, output)
    else:
        run.print_report(report, output)
    click.get_current_context().exit(report.exit_code)


def follow(
    settings: Settings, database: DbClient, job: Job, *, may_abort: bool, verbose: bool = False
) -> RunReport:
    """Follow a job until it ends or the person leaves; what is known of it then."""
    report = RunReport()
    interrupts = Interrupts(keyboard.is_interactive(), may_abort=may_abort, is_owner=False)
    view = ReportView(report, interrupts, verbose=verbose)
    try:
        with JobSource(settings, database, job, verbose=verbose) as source:
            ending = loop.follow(source, interrupts, view)
    finally:
        view.close()
    if ending.code is None:
        report.leave(ending.signal_number, 0.0)
    else:
        report.close(ending.code, _duration_s(database.jobs.get_job(job.id)))
    return report


def _duration_s(job: Job) -> float:
    stop_time = job.stop_time or datetime.datetime.now(datetime.UTC)
    return (stop_time - job.start_time).total_seconds()
