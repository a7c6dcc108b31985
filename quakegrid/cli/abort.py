"""Command `abort`: asks before a job or session of somebody else is aborted; the broker ends them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.views import render
from quakegrid.clients import broker as fleet
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs import terminal_text


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("numbers", metavar="ID...", nargs=-1, required=True, type=options.JOB_ID)
@click.option("-y", "--yes", is_flag=True, help="Do not ask before work of another user is aborted.")
def abort(numbers: tuple[int, ...], yes: bool) -> None:
    """Abort jobs, wherever they run, and sessions of programs.

    Seconds later none of their processes is left, and their status is `aborted`. A negative ID is
    the nth last of your jobs. A program that submits Python functions has a session and no job:
    `quakegrid status` shows the session's ID. Its calls fail, and the program itself goes on.

    Ends with exit code 1 if one could not be aborted.
    """
    settings = options.cluster_settings()
    failed = 0
    with closing(fleet.BrokerClient(settings)) as broker, DbClient(settings) as database:
        for work in _find(database, broker, numbers, is_sure=yes):
            try:
                if isinstance(work, errors.QuakeGridError):
                    raise work
                was_running = broker.abort_job(work.number)
            except (errors.NotFoundError, errors.StateError, errors.NotAllowedError) as exc:
                render.say(f"quakegrid: {exc}")
                failed += 1
                continue
            render.say(f"{work.name} {'aborted' if was_running else 'was not executing'}")
    if failed:
        click.get_current_context().exit(1)


@dataclass(frozen=True, slots=True)
class Work:
    """A job, or a session without one.

    Args:
        number: its id.
        name: for people.
        what: its name and description.
        user_name: whose it is.
    """

    number: int
    name: str
    what: str
    user_name: str


def _find(
    database: DbClient, broker: fleet.BrokerClient, numbers: Sequence[int], *, is_sure: bool
) -> list[Work | errors.QuakeGridError]:
    """What to abort, or why there is nothing of a number; asks first if it is somebody else's."""
    found: list[Work | errors.QuakeGridError] = []
    for number in numbers:
        try:
            work = _work(database, broker, number)
        except (errors.NotFoundError, errors.StateError) as exc:
            found.append(exc)
        else:
            if not is_sure and work.user_name != database.user_name:
                _confirm(work)
            found.append(work)
    return found


def _work(database: DbClient, broker: fleet.BrokerClient, number: int) -> Work:
    """What a number means.

    Raises:
        NotFoundError: neither a job nor an open session has it.
    """
    try:
        job = own_jobs.own_job(database, number)
    except errors.NotFoundError:
        session = next((each for each in broker.status().sessions if each.session_id == number), None)
        if session is None:
            raise
        name = f"session {number}"
        return Work(number, name, name, session.user_name)
    return Work(job.id, f"job {job.id}", f"job {job.id} ({job.description})", job.user_name)


def _confirm(work: Work) -> None:
    """Ask before something of somebody else is aborted.

    Raises:
        UsageError: nobody can be asked.
    """
    whose = terminal_text.one_line(f"{work.what} belongs to {work.user_name}")
    if not sys.stdin.isatty():
        raise errors.UsageError(f"{whose}; to abort it nevertheless, give --yes")
    click.confirm(f"{whose[0].upper()}{whose[1:]}. Abort it?", abort=True, err=True)
