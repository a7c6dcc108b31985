"""Command `attach`: follows a calculation again, from any machine, until its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import click

from quakegrid import errors
from quakegrid.cli import options, run
from quakegrid.cli.following import keyboard, loop, runs
from quakegrid.cli.following.interrupts import Interrupts
from quakegrid.cli.following.job_source import JobSource
from quakegrid.cli.following.report_view import ReportView
from quakegrid.cli.views.run_report import RunReport
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.drivers import DriverLink, DriverRequest
from quakegrid.clients.job_events import JobEvents
from quakegrid.settings.config import Settings

# How long the command waits for a dbserver that is away.
RETRY_S = 300.0


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@click.option("-v", "--verbose", is_flag=True, help="Show all of the log from level INFO, from its start.")
@options.output_option
def attach(job_id: int, verbose: bool, output: str) -> None:
    """Follow a calculation again, until its end.

    Works from any machine with your credential, and without one where you start calculations. Shows the last
    lines of its log, how far its operations are, and what comes. For a calculation that has ended, prints
    its result.

    On a terminal, Ctrl-C asks whether to abort the calculation, or to leave it again. In a script, Ctrl-C
    aborts it. If it is not yours, Ctrl-C leaves it.

    Ends with the exit code of the calculation: 0 complete, 1 failed, 4 aborted.
    """
    settings = _settings()
    report = RunReport()
    # Until it is known whose it is, nothing is aborted.
    interrupts = Interrupts(keyboard.is_interactive(), may_abort=False, is_owner=False)
    view = ReportView(report, interrupts, verbose=verbose)
    try:
        with _source(settings, job_id, verbose=verbose) as source:
            ending = loop.follow(source, interrupts, view)
    finally:
        view.close()
    if ending.code is None:
        report.leave(ending.signal_number, 0.0)
        run.print_left(report, output)
    else:
        report.close(ending.code, report.duration_s)
        run.print_report(report, output)
    click.get_current_context().exit(report.exit_code)


def _settings() -> Settings:
    """The settings of a person who has the key or a credential; else of one who may ask the agent here."""
    try:
        return options.cluster_settings()
    except (errors.SettingsError, errors.PeerUnreachableError):
        return options.machine_settings()


@contextlib.contextmanager
def _source(settings: Settings, job_id: int, *, verbose: bool) -> Iterator[loop.Source]:
    """Where the events of a job come from: from the services, or from a driver that may ask them."""
    if not settings.authkey and settings.credential is None:
        argv = ["attach", str(job_id), *(["-v"] if verbose else [])]
        with DriverLink(settings, DriverRequest(argv)) as link:
            yield runs.DriverSource(link)
        return
    with DbClient(settings, retry_s=RETRY_S) as database:
        job = own_jobs.own_job(database, job_id)
        with JobSource(JobEvents(settings, database, job, verbose=verbose)) as source:
            yield source
