"""Commands `jobs ...`: lists, logs and outputs of calculations, and export.

Asks the dbserver and prints its answers.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import click

from quakegrid import errors
from quakegrid.cli import exports, options
from quakegrid.cli.following import wait
from quakegrid.cli.results import compare, prune
from quakegrid.cli.shell import ages
from quakegrid.cli.shell.groups import CommandGroup
from quakegrid.cli.views import job_card, render, widths
from quakegrid.clients import broker as fleet
from quakegrid.clients.dbserver import job_watch
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.own_jobs import is_own, own_job, own_job_id
from quakegrid.clients.dbserver.tags import TagsClient
from quakegrid.jobs import terminal_text
from quakegrid.jobs.filters import JobFilter, JobOrder
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job, LogLine
from quakegrid.reports import explanations
from quakegrid.settings.config import Settings

STATES = [state.value for state in JobState]
# How long watching waits for a dbserver that is away.
WATCH_RETRY_S = 300.0


def _client() -> DbClient:
    return DbClient(options.cluster_settings())


def _instant(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime.datetime | None:
    """A day or time of the user, which is local."""
    if value is None:
        return None
    try:
        return ages.instant(value, datetime.datetime.now().astimezone())
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


@click.group(cls=CommandGroup)
def jobs() -> None:
    """List, watch, show, compare, share, tag, export and delete calculations.

    A negative ID counts from the end: -1 is your last calculation.
    """


@jobs.command("list")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@click.option("--user", "user_name", default="", help="Only jobs of this user.")
@click.option(
    "--state",
    "states",
    type=click.Choice(STATES),
    multiple=True,
    callback=lambda _ctx, _param, values: [JobState(value) for value in values],
    help="Only jobs in this state.",
)
@click.option("--mode", "calculation_mode", default="", help="Only this calculation mode, such as classical.")
@click.option("--text", "description_text", default="", help="Only jobs with this text in their description.")
@click.option("--tag", default="", help="Only jobs with this tag.")
@click.option(
    "--since",
    "start_min_time",
    callback=_instant,
    metavar="WHEN",
    help="Only jobs that started then or later: 2d, yesterday or 2026-01-31.",
)
@click.option(
    "--before",
    "start_max_time",
    callback=_instant,
    metavar="WHEN",
    help="Only jobs that started before.",
)
@click.option(
    "--sort",
    type=click.Choice([order.value for order in JobOrder]),
    default=JobOrder.ID.value,
    show_default=True,
    help="Sort by this, largest first.",
)
@click.option("--ascending", is_flag=True, help="Smallest first.")
@options.output_option
def list_jobs(limit: int, sort: str, ascending: bool, output: str, **fields: Any) -> None:
    """List calculations, newest first."""
    wanted = JobFilter(**fields)
    with closing(_client()) as database:
        found = database.jobs.list_jobs(limit, wanted, JobOrder(sort), is_ascending=ascending)
    columns = {
        "id": "id",
        "state": "state",
        "user_name": "user",
        "start": "start",
        "took": "took",
        "calculation_mode": "mode",
        "description": "description",
    }
    now_time = datetime.datetime.now(datetime.UTC)
    rows = found if output == "json" else [_listed(job, now_time) for job in found]
    render.print_listing(output, rows, columns, cut="description")
    if not found and output == "table":
        is_any = any(fields[name] for name in fields)
        render.say(
            "No calculation is like that; `quakegrid jobs list` shows all."
            if is_any
            else "There is no calculation yet; `quakegrid demo` runs a first one."
        )


def _listed(job: Job, now_time: datetime.datetime) -> dict[str, Any]:
    """A job as a table shows it: when it began and how long it took, in short."""
    end_time = job.stop_time or (now_time if job.is_running else None)
    return {
        "id": job.id,
        "state": job.state.value,
        "user_name": job.user_name,
        "start": f"{job.start_time.astimezone():%y-%m-%d %H:%M}",
        "took": render.short_time((end_time - job.start_time).total_seconds()) if end_time else "-",
        "calculation_mode": job.calculation_mode,
        "description": job.description,
    }


@jobs.command()
@click.option("--user", default="", help="Only jobs of this user.")
@click.option("--json", "is_json", is_flag=True, help="One JSON document a line: a snapshot, then events.")
def watch(user: str, is_json: bool) -> None:
    """Show what happens to calculations, until Ctrl-C.

    Starts with those that have not ended. Goes on after a restart of the dbserver.
    """
    with closing(DbClient(options.cluster_settings(), retry_s=WATCH_RETRY_S)) as database:
        for change in job_watch.watch_jobs(database, user):
            if is_json:
                render.print_json_line(change)
            elif isinstance(change, job_watch.JobSnapshot):
                for job in change.jobs:
                    if not job.state.is_final:
                        _print_change(datetime.datetime.now(datetime.UTC), job.id, f"is {job.state}", job)
            else:
                _print_event(change)


def _print_event(event: job_watch.JobEvent) -> None:
    if event.new_state is None:
        what = "is gone"
    elif event.old_state is None:
        what = f"is {event.new_state}"
    else:
        what = f"{event.old_state} -> {event.new_state}"
    _print_change(event.event_time, event.job_id, what, event.job)


def _print_change(time: datetime.datetime, job_id: int, what: str, job: Job | None) -> None:
    about = f"  {job.user_name}: {job.description}" if job else ""
    if job and job.state_reason and what.endswith(job.state):
        about += f" ({job.state_reason})"
    line = terminal_text.one_line(f"{render.cell(time)}  job {job_id} {what:<24}{about}".rstrip())
    click.echo(widths.paragraph(line, len(render.cell(time)) + 2))


@jobs.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
def share(job_id: int) -> None:
    """Let all users see a complete calculation."""
    with closing(_client()) as database:
        job = database.jobs.share_job(own_job_id(database, job_id), database.user_name)
    render.say(f"job {job.id} is shared")


@jobs.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
def unshare(job_id: int) -> None:
    """Take back what `share` did."""
    with closing(_client()) as database:
        job = database.jobs.unshare_job(own_job_id(database, job_id), database.user_name)
    render.say(f"job {job.id} is not shared")


@jobs.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@click.argument("names", metavar="[TAG]...", nargs=-1)
@click.option("--remove", is_flag=True, help="Take the tags from the job instead of giving them.")
@click.option("--prefer", is_flag=True, help="Make the job the preferred one of its tags.")
@options.output_option
def tag(job_id: int, names: tuple[str, ...], remove: bool, prefer: bool, output: str) -> None:
    """Give a calculation tags, then list those it has."""
    if remove and prefer:
        raise errors.UsageError("--remove and --prefer exclude each other")
    with closing(_client()) as database:
        job = own_job(database, job_id)
        tags = TagsClient(database, database.user_name)
        act = tags.remove if remove else tags.prefer if prefer else tags.add
        for name in names:
            act(job.id, name)
        found = tags.list_tags(job.id)
    rows = [
        {"name": each.name, "is_preferred": each.preferred_job_id == job.id, "job_count": len(each.job_ids)}
        for each in found
    ]
    render.print_listing(output, rows, {"name": "tag", "is_preferred": "preferred", "job_count": "jobs"})


@jobs.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@options.output_option
def show(job_id: int, output: str) -> None:
    """Show one calculation: how it ended and why, what it was, and where its results are."""
    with closing(_client()) as database:
        job = own_job(database, job_id)
        tags = () if output != "table" else TagsClient(database).list_tags(job.id)
    if output != "table":
        render.print_record(output, job)
        return
    now_time = datetime.datetime.now(datetime.UTC)
    click.secho(widths.paragraph(terminal_text.one_line(f"job {job.id}: {job.description}"), 2), bold=True)
    click.echo(widths.paragraph(terminal_text.one_line(job_card.headline(job, now_time)), 2))
    click.echo()
    stage = _stage(options.cluster_settings(), job.id) if job.is_running else ""
    rows = job_card.facts(job, now_time, tuple(tag.name for tag in tags), stage)
    width = max(len(label) for label, _ in rows) + 2
    for label, text in rows:
        click.echo(widths.hanging(f"{label:<{width}}", terminal_text.one_line(text)))


def _stage(settings: Settings, job_id: int) -> str:
    """The stage at hand of a running job; empty if the broker does not know it, or does not answer."""
    with closing(fleet.BrokerClient(settings)) as broker:
        try:
            session = explanations.find_session(broker.status(), job_id)
        except errors.QuakeGridError:
            return ""
    return explanations.stage_of(session, job_id) if session else ""


@jobs.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines until the job ends.")
@click.option(
    "-n", "--tail", "tail_count", type=click.IntRange(min=0), default=0, help="Only the last N lines."
)
@options.output_option
def logs(job_id: int, follow: bool, tail_count: int, output: str) -> None:
    """Show the log of a calculation (json with --follow: one document a line)."""
    with closing(_client()) as database:
        job_id = own_job(database, job_id).id
        if not follow:
            _print_log(database.logs.list_log(job_id, tail_count), output)
            return
        after_id = 0
        if tail_count:
            lines = list(database.logs.list_log(job_id, tail_count))
            _print_log(lines, output, is_stream=True)
            after_id = lines[-1].id if lines else 0
        _print_log(database.logs.tail_log(job_id, after_id), output, is_stream=True)


def _print_log(lines: Iterable[LogLine], output: str, *, is_stream: bool = False) -> None:
    if output == "json" and not is_stream:
        render.print_json(list(lines))
        return
    for line in lines:
        if output == "json":
            render.print_json_line(line)
        elif output == "quiet":
            click.echo(terminal_text.paragraph(line.message))
        else:
            level, message = terminal_text.one_line(line.level), terminal_text.paragraph(line.message)
            click.echo(f"{render.cell(line.log_time)} {level:<8} {message}")


@jobs.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@options.output_option
def outputs(job_id: int, output: str) -> None:
    """List what a calculation has for export."""
    with closing(_client()) as database:
        found = database.outputs.list_outputs(own_job(database, job_id).id)
    columns = {"id": "id", "display_name": "output", "ds_key": "key"}
    # The engine writes -1 where it does not know the size.
    known = {each.id: each.size_mb for each in found if each.size_mb is not None and each.size_mb >= 0}
    if not known or output == "json":
        render.print_listing(output, found, columns, cut="display_name")
        return
    rows = [render.plain(each) | {"size_mb": known.get(each.id)} for each in found]
    render.print_listing(output, rows, columns | {"size_mb": "MiB"}, cut="display_name")


jobs.add_command(exports.export)
jobs.add_command(wait.wait)
jobs.add_command(compare.compare)
jobs.add_command(prune.prune)


@jobs.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(job_id: int, yes: bool) -> None:
    """Delete a calculation with its datastore files."""
    with closing(_client()) as database:
        job = own_job(database, job_id)
        if not yes:
            if not sys.stdin.isatty():
                raise errors.UsageError(f"deleting job {job.id} wants a confirmation; give --yes")
            about = terminal_text.one_line(job.description)
            whose = "" if is_own(database, job) else f" of {terminal_text.one_line(job.user_name)}"
            click.confirm(f"Delete job {job.id} ({about}){whose} and its files?", abort=True, err=True)
        files = database.jobs.delete_job_and_files(job.id, database.user_name)
    render.say(f"job {job.id} deleted")
    for path in files.gone:
        render.say(f"removed: {path}")
    for path in files.left:
        render.say(f"soon removed, by the master's web service: {path}")
