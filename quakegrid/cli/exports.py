"""Command `jobs export`: a driver writes the outputs of a job; this module prints what it wrote."""

from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.views import render
from quakegrid.cli.views.run_report import RunReport
from quakegrid.clients import drivers
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.own_jobs import own_job
from quakegrid.settings.config import Settings


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--exports", metavar="FORMATS", default="csv", show_default=True, help="Such as csv or csv,hdf5."
)
def export(job_id: int, folder: Path, exports: str) -> None:
    """Export all outputs of a calculation into a folder of this machine.

    Each output is exported in all FORMATS that it has. Files are whole or not there. Ends with exit code 1 if
    an output could not be exported, or if there was none.
    """
    settings = options.cluster_settings()
    with closing(DbClient(settings)) as database:
        job = own_job(database, job_id)
    if job.state.is_unsuccessful:
        raise errors.StateError(
            f"job {job.id} is {job.state} and has no outputs to export; `quakegrid explain {job.id}` says why"
        )
    folder = folder.expanduser().absolute()
    report = RunReport()
    report.close(write(settings, report, job.id, folder, exports), 0.0)
    for path in report.exported:
        click.echo(f"exported: {path}")
    for line in report.not_exported:
        render.say(f"not exported: {line}")
    if report.not_exported:
        render.say(f"to try again: quakegrid jobs export {job.id} {shlex.quote(str(folder))}")
    if report.error:
        render.say(f"quakegrid: {report.error}")
    click.get_current_context().exit(report.exit_code)


def write(settings: Settings, report: RunReport, job_id: int, folder: Path, formats: str) -> int:
    """Export by a driver of this machine, or by the web service from elsewhere; an exit code.

    Args:
        settings: of the cluster.
        report: notes what was exported, and what was not.
        job_id: the calculation.
        folder: whole path of the folder.
        formats: with commas.
    """
    if settings.credential is None:
        argv = ["export", str(job_id), str(folder), formats]
        return drivers.run_driver(settings, argv, mode="run", on_event=report.take)
    from quakegrid.cli.desk import runs  # noqa: PLC0415 - only with a credential
    from quakegrid.clients.web import results, web_client  # noqa: PLC0415

    with web_client.open_web(settings) as web:
        return runs.export(web, report, job_id, folder, results.split_formats(formats))
