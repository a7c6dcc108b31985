"""Commands `report` and `explain`: where the cluster's time went, and why a job is as slow as it is.

Gets the records and prints the result; `quakegrid.reports` computes it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.views import render, transfer, widths
from quakegrid.cli.views.render import say
from quakegrid.clients import broker as fleet
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.values import Job
from quakegrid.reports import explanations, job_report, task_history, task_history_files
from quakegrid.reports.job_report import JobReport
from quakegrid.reports.task_history import TaskHistory
from quakegrid.settings.config import Settings

FIGURE_STEPS = 1000
_MINUTE_S = 60.0
_HOUR_S = 3600.0
# Columns of tables, by the fields of their items.
_OPERATIONS = {
    "operation": "operation",
    "task_count": "tasks",
    "total_s": "total, s",
    "median_s": "median, s",
    "max_s": "longest, s",
    "load_s": "unpickling, s",
    "straggler_count": "stragglers",
}
_STRAGGLERS = {
    "task_id": "straggler",
    "operation": "operation",
    "node": "node",
    "duration_s": "took, s",
    "median_s": "median, s",
}
_RETRIES = {
    "task_id": "lost task",
    "attempt": "attempt",
    "operation": "operation",
    "node": "node",
    "lost_s": "lost, s",
    "worker_reason": "how its worker ended",
}


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("number", metavar="ID", type=options.JOB_ID)
@click.option(
    "--png",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Draw busy cores over time.",
)
@options.plain_output_option
def report(number: int, png: Path | None, output: str) -> None:
    """Show where the cores' time went during a calculation.

    ID is a job (negative: the nth last of yours) or a session as `quakegrid status` names it.
    """
    settings = options.client_settings()
    number = _job_id(settings, number)
    try:
        history = _read_history(settings, number)
    except errors.NotFoundError as exc:
        raise _missing(settings, number, exc) from None
    found = job_report.make_report(history, time.time())
    if png is not None:
        from quakegrid.cli.views import timeline  # noqa: PLC0415 - only when asked for

        held = job_report.thin_out(job_report.held_cores(history, time.time()), FIGURE_STEPS)
        busy = job_report.thin_out(job_report.busy_cores(history), FIGURE_STEPS)
        timeline.draw(held, busy, _title(found), png)
        say(f"figure: {png}")
    if output == "json":
        render.print_json(found)
    else:
        _print_report(found)


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("number", metavar="ID", type=options.JOB_ID)
@options.plain_output_option
def explain(number: int, output: str) -> None:
    """Say why a job failed, waits, is slow, or ran a task again.

    ID is a job (negative: the nth last of yours) or a session as `quakegrid status` names it.
    """
    settings = options.client_settings()
    number = _job_id(settings, number)
    with closing(fleet.BrokerClient(settings)) as broker:
        try:
            now = broker.status()
        except errors.PeerUnreachableError as exc:
            now = None
            say(str(exc))
    job, found = _find_job(settings, number), None
    try:
        found = job_report.make_report(_read_history(settings, number), time.time())
    except errors.NotFoundError as exc:
        is_told = (job and job.state.is_unsuccessful) or (now and explanations.find_session(now, number))
        if not is_told:
            raise _missing(settings, number, exc) from None
    if found and job and job.id not in found.job_ids:
        job = None  # the number is a session's, too
    sentences = explanations.explain(number, now, found, job)
    if output == "json":
        render.print_json({"id": number, "state": job and job.state, "sentences": sentences})
        return
    for sentence in sentences:
        click.echo(widths.paragraph(sentence, 2))


def _find_job(settings: Settings, number: int) -> Job | None:
    """A job as the database has it, if it does and answers."""
    with closing(DbClient(settings)) as database:
        try:
            return database.jobs.get_job(number)
        except (errors.NotFoundError, errors.PeerUnreachableError):
            return None


def _job_id(settings: Settings, number: int) -> int:
    """The id that a negative number means; only the dbserver knows."""
    if number > 0:
        return number
    with closing(DbClient(settings)) as database:
        return own_jobs.own_job_id(database, number)


def _missing(settings: Settings, number: int, missing: errors.NotFoundError) -> errors.QuakeGridError:
    """Why there are no records, as far as the database knows the job."""
    with closing(DbClient(settings)) as database:
        try:
            state = database.jobs.get_job(number).state
        except errors.NotFoundError as exc:
            return exc
        except errors.PeerUnreachableError:
            return missing
    if state.is_final:
        return errors.NotFoundError(f"job {number} is {state}, and {missing}")
    return errors.NotFoundError(
        f"job {number} is {state}, and no driver of it has a session with the broker; see "
        f"`quakegrid jobs logs {number}`"
    )


def _read_history(settings: Settings, number: int) -> TaskHistory:
    """The records of a job, from the broker, or from this machine's files if it does not run."""
    with closing(fleet.BrokerClient(settings)) as broker:
        try:
            return task_history.read_history(broker.task_records(number))
        except errors.PeerUnreachableError:
            directory = task_history_files.folder(settings)
            if not directory.is_dir():
                raise
    return task_history.read_history(task_history_files.read(task_history_files.find(directory, number)))


def _title(found: JobReport) -> str:
    names = ", ".join(f"job {job_id}" for job_id in found.job_ids)
    return names or f"session {found.session_id}"


def _print_report(found: JobReport) -> None:
    click.echo(widths.paragraph(f"{_title(found)}{', still executing' if found.is_running else ''}", 2))
    shares = (
        ("used", found.used_s),
        ("lost", found.lost_s),
        ("transfer", found.transfer_s),
        ("idle", found.idle_s),
        ("all", found.core_s),
    )
    click.echo()
    is_long = found.core_s >= _HOUR_S
    render.print_table(
        [
            [name, s / _HOUR_S if is_long else s, f"{s / found.core_s:.1%}" if found.core_s else "-"]
            for name, s in shares
        ],
        ["cores", "core-hours" if is_long else "core-seconds", "share"],
    )
    if found.is_running:
        click.echo("Tasks that are running now count when they are done.")
    click.echo()
    facts = _facts(found)
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        click.echo(f"{name:<{width}}{value}")
    _print_tables(found)


def _facts(found: JobReport) -> dict[str, str]:
    """Labels and texts; counts of what should not happen are left out when there is nothing of it."""
    rare = {
        "retries": found.retry_count,
        "outcomes dropped": found.dropped_count,
        "stragglers": found.straggler_count,
        "without a record": found.omitted_count,
    }
    return {
        "wall time": _time(found.wall_s),
        "workers": str(found.worker_count),
        "tasks": str(found.task_count),
        **{name: str(count) for name, count in rare.items() if count},
        "tail": _time(found.tail_s),
        "waiting for the driver": _time(found.driver_s),
        "fetching and unpickling": _time(found.load_s),
        "sent to workers": transfer.bytes_text(found.in_bytes),
        "sent back": transfer.bytes_text(found.out_bytes),
        "peak memory of a worker": transfer.bytes_text(found.peak_memory_bytes),
    }


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < _MINUTE_S else render.short_time(seconds)


def _print_tables(found: JobReport) -> None:
    """Tables of those things that there are, as wide as the terminal at most."""
    listings: tuple[tuple[Sequence[Any], Mapping[str, str], Sequence[str], str], ...] = (
        (found.operations, _OPERATIONS, ("load_s", "straggler_count", "total_s"), "operation"),
        (found.stragglers, _STRAGGLERS, ("median_s",), "operation"),
        (found.retries, _RETRIES, (), "worker_reason"),
    )
    for items, columns, spare, cut in listings:
        if items:
            click.echo()
            render.print_listing("table", items, columns, spare=spare, cut=cut)
