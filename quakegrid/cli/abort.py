"""Command `abort`: asks before a job of somebody else is aborted; the broker ends the jobs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.views import render
from quakegrid.clients import broker as fleet
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs import terminal_text
from quakegrid.jobs.values import Job


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("numbers", metavar="ID...", nargs=-1, required=True, type=options.JOB_ID)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before a job of another user is aborted.")
def abort(numbers: tuple[int, ...], yes: bool) -> None:
    """Abort jobs, wherever they run.

    Seconds later none of their processes is left, and their status is `aborted`. A negative ID is
    the nth last of your jobs. Ends with exit code 1 if one could not be aborted.
    """
    settings = options.cluster_settings()
    failed = 0
    with closing(fleet.BrokerClient(settings)) as broker, DbClient(settings) as database:
        for job in _find(database, numbers, is_sure=yes):
            try:
                if isinstance(job, errors.QuakeGridError):
                    raise job
                was_running = broker.abort_job(job.id)
            except (errors.NotFoundError, errors.StateError, errors.NotAllowedError) as exc:
                render.say(f"quakegrid: {exc}")
                failed += 1
                continue
            render.say(f"job {job.id} aborted" if was_running else f"job {job.id} was not running")
    if failed:
        click.get_current_context().exit(1)


def _find(database: DbClient, numbers: Sequence[int], *, is_sure: bool) -> list[Job | errors.QuakeGridError]:
    """The jobs to abort, or why there is none; asks first if one is somebody else's."""
    found: list[Job | errors.QuakeGridError] = []
    for number in numbers:
        try:
            job = own_jobs.own_job(database, number)
        except (errors.NotFoundError, errors.StateError) as exc:
            found.append(exc)
        else:
            if not is_sure and not own_jobs.is_own(database, job):
                _confirm(job)
            found.append(job)
    return found


def _confirm(job: Job) -> None:
    """Ask before a job of somebody else is aborted.

    Raises:
        UsageError: nobody can be asked.
    """
    description, user = terminal_text.one_line(job.description), terminal_text.one_line(job.user_name)
    whose = f"job {job.id} ({description}) belongs to {user}"
    if not sys.stdin.isatty():
        raise errors.UsageError(f"{whose}; to abort it nevertheless, give --yes")
    click.confirm(f"{whose[0].upper()}{whose[1:]}. Abort it?", abort=True, err=True)
