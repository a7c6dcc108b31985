"""Command `jobs prune`: removes old calculations with their files."""

from __future__ import annotations

import datetime
import sys
from contextlib import closing

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.results import old_jobs
from quakegrid.cli.results.old_jobs import Chosen
from quakegrid.cli.shell import ages
from quakegrid.cli.views import render, widths
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.tags import TagsClient
from quakegrid.jobs import terminal_text
from quakegrid.jobs.filters import JobFilter
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job

# Of one person; what is more is left for the next time.
MOST_JOBS = 100_000
SHOWN = 10
ENDED = [JobState.COMPLETE, JobState.FAILED, JobState.ABORTED]


def _age(_ctx: click.Context, _param: click.Parameter, value: str) -> datetime.timedelta:
    try:
        return ages.age(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


@click.command()
@click.option(
    "--older", required=True, callback=_age, metavar="AGE", help="Those that ended longer ago, such as 90d."
)
@click.option(
    "--state",
    "states",
    type=click.Choice([state.value for state in ENDED]),
    multiple=True,
    callback=lambda _ctx, _param, values: [JobState(value) for value in values],
    help="Only jobs in this state (repeatable).",
)
@click.option("--user", default="", metavar="NAME", help="Those of this person; for operators and admins.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@options.output_option
def prune(
    older: datetime.timedelta, states: list[JobState], user: str, dry_run: bool, yes: bool, output: str
) -> None:
    """Remove your old calculations with their files.

    Keeps those that are shared or have a tag, and those that a calculation starts from which stays.

    Examples: `quakegrid jobs prune --older 90d --dry-run`, `quakegrid jobs prune --older 1w --state failed`

    Ends with exit code 1 if one could not be removed.
    """
    with closing(DbClient(options.cluster_settings())) as database:
        end_time = datetime.datetime.now(datetime.UTC) - older
        owner = user or database.user_name
        jobs = database.jobs.list_jobs(MOST_JOBS, JobFilter(user_name=owner))
        tagged = {job_id for tag in TagsClient(database).list_tags() for job_id in tag.job_ids}
        chosen = old_jobs.choose(jobs, end_time, states=states, tagged=tagged)
        if output == "table":
            _tell(chosen, owner)
        failed = [] if dry_run or not _is_sure(chosen, yes=yes) else _remove(database, chosen)
    _print_result(chosen, failed, output, is_done=not dry_run)
    if failed:
        click.get_current_context().exit(errors.EXIT_FAILED)


def _tell(chosen: Chosen, owner: str) -> None:
    for job, reason in chosen.kept[:SHOWN]:
        render.say(f"kept: job {job.id}, since {reason}")
    if len(chosen.kept) > SHOWN:
        render.say(f"kept: {len(chosen.kept) - SHOWN} more likewise")
    for job in chosen.removed[:SHOWN]:
        about = f"job {job.id}  {job.state:<9} {render.cell(job.stop_time or job.start_time)}  "
        render.say(widths.cut_line(about + terminal_text.one_line(job.description)))
    if len(chosen.removed) > SHOWN:
        render.say(f"and {len(chosen.removed) - SHOWN} more")
    if not chosen.removed:
        render.say(f"There is no calculation of {owner} to remove.")


def _is_sure(chosen: Chosen, *, yes: bool) -> bool:
    """Whether to go on: asks, unless there is nothing to do."""
    if not chosen.removed or yes:
        return bool(chosen.removed)
    if not sys.stdin.isatty():
        raise errors.UsageError("removing calculations wants a confirmation; give --yes")
    size = f" ({chosen.size_mb:.1f} MiB)" if chosen.size_mb else ""
    return click.confirm(f"Remove {_count(chosen.removed)} and their files{size}?", abort=True, err=True)


def _remove(database: DbClient, chosen: Chosen) -> list[tuple[Job, str]]:
    """Remove the chosen jobs, the newest first; those that could not be, with the reason."""
    failed = []
    for job in reversed(chosen.removed):
        try:
            database.jobs.delete_job_and_files(job.id, database.user_name)
        except errors.NotFoundError:
            continue  # somebody else has removed it
        except (errors.StateError, errors.NotAllowedError) as exc:
            failed.append((job, str(exc)))
            render.say(f"quakegrid: job {job.id}: {exc}")
    return failed


def _print_result(chosen: Chosen, failed: list[tuple[Job, str]], output: str, *, is_done: bool) -> None:
    left = {job.id for job, _ in failed}
    removed = [job for job in chosen.removed if job.id not in left]
    if output == "json":
        render.print_json(
            {
                "is_done": is_done,
                "removed": [job.id for job in removed],
                "failed": [{"id": job.id, "reason": reason} for job, reason in failed],
                "kept": [{"id": job.id, "reason": reason} for job, reason in chosen.kept],
            }
        )
    elif output == "quiet":
        for job in removed:
            click.echo(job.id)
    elif removed:
        verb = "were removed" if is_done else "would be removed"
        click.echo(f"{_count(removed)} {verb if len(removed) > 1 else verb.replace('were', 'was')}")


def _count(jobs: list[Job]) -> str:
    return "1 job" if len(jobs) == 1 else f"{len(jobs)} jobs"
