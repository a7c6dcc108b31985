"""Commands `jobs ...`: what the database knows of calculations, and export.

Knows the dbserver's client and how to print its answers; an export runs the engine's own command.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import click

from quakegrid import driver_client, errors
from quakegrid.cli import options, render
from quakegrid.job_states import JobState
from quakegrid.jobs import DbClient, LogLine

# Job ids may be negative, as upstream's "nth last": `-1` must not be taken for an option.
NEGATIVE_IDS = {"ignore_unknown_options": True}
STATES = [state.value for state in JobState]


def _client() -> DbClient:
    return DbClient(options.cluster_settings())


@click.group()
def jobs() -> None:
    """List, show, export and delete calculations.

    A negative ID counts from the end: -1 is your last calculation.
    """


@jobs.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--user", default="", help="Only jobs of this user.")
@click.option("--state", "states", type=click.Choice(STATES), multiple=True, help="Only jobs in this state.")
@options.output_option
def list_jobs(limit: int, user: str, states: tuple[str, ...], output: str) -> None:
    """List calculations, newest first."""
    with closing(_client()) as database:
        found = database.list_jobs(limit, user, [JobState(state) for state in states])
    columns = {
        "id": "id",
        "state": "state",
        "user_name": "user",
        "start_time": "start",
        "stop_time": "stop",
        "calculation_mode": "mode",
        "description": "description",
    }
    render.print_listing(output, found, columns)


@jobs.command(context_settings=NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=int)
@options.output_option
def show(job_id: int, output: str) -> None:
    """Show one calculation."""
    with closing(_client()) as database:
        render.print_record(output, database.get_job(job_id, _owner(job_id)))


@jobs.command(context_settings=NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=int)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until the job ends.")
@click.option(
    "-n", "--tail", "tail_count", type=click.IntRange(min=0), default=0, help="Only the last N lines."
)
@options.output_option
def logs(job_id: int, follow: bool, tail_count: int, output: str) -> None:
    """Show the log of a calculation (json with --follow: one document a line)."""
    with closing(_client()) as database:
        job_id = database.get_job(job_id, _owner(job_id)).id
        if not follow:
            _print_log(database.list_log(job_id, tail_count), output)
            return
        after_id = 0
        if tail_count:
            lines = list(database.list_log(job_id, tail_count))
            _print_log(lines, output, is_stream=True)
            after_id = lines[-1].id if lines else 0
        _print_log(database.tail_log(job_id, after_id), output, is_stream=True)


def _print_log(lines: Iterable[LogLine], output: str, *, is_stream: bool = False) -> None:
    if output == "json" and not is_stream:
        render.print_json(list(lines))
        return
    for line in lines:
        if output == "json":
            render.print_json_line(line)
        elif output == "quiet":
            click.echo(line.message)
        else:
            click.echo(f"{render.cell(line.log_time)} {line.level:<8} {line.message}")


@jobs.command(context_settings=NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=int)
@options.output_option
def outputs(job_id: int, output: str) -> None:
    """List what a calculation has for export."""
    with closing(_client()) as database:
        found = database.list_outputs(database.get_job(job_id, _owner(job_id)).id)
    columns = {"id": "id", "display_name": "output", "ds_key": "key", "size_mb": "MB"}
    render.print_listing(output, found, columns)


@jobs.command(context_settings=NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=int)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--exports", metavar="FORMATS", default="csv", show_default=True, help="Such as csv or csv,hdf5."
)
def export(job_id: int, folder: Path, exports: str) -> None:
    """Export all outputs of a calculation into a folder."""
    settings = options.cluster_settings()
    with closing(DbClient(settings)) as database:
        job = database.get_job(job_id, _owner(job_id))
    folder = folder.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["engine", "--eos", str(job.id), str(folder), "--exports", exports]
    click.get_current_context().exit(driver_client.run_driver(settings, argv, mode="oq"))


@jobs.command(context_settings=NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=int)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(job_id: int, yes: bool) -> None:
    """Delete a calculation with its datastore files."""
    with closing(_client()) as database:
        job = database.get_job(job_id, _owner(job_id))
        if not yes:
            if not sys.stdin.isatty():
                raise errors.UsageError(f"deleting job {job.id} wants a confirmation; give --yes")
            click.confirm(f"Delete job {job.id} ({job.description}) and its files?", abort=True, err=True)
        paths = database.delete_job(job.id, getpass.getuser(), delete_files=True)
    click.echo(f"job {job.id} deleted", err=True)
    for path in paths:
        click.echo(f"removed: {path}", err=True)


def _owner(job_id: int) -> str:
    """Counting from the end is among one's own jobs, as upstream does; an id is anybody's."""
    return getpass.getuser() if job_id < 0 else ""
