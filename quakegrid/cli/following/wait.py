"""Command `jobs wait`: waits for the ends of jobs, for scripts."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Iterator, Sequence

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.views import render, widths
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs import documents, terminal_text
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job

# How long the command waits for a dbserver that is away.
RETRY_S = 300.0


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("numbers", metavar="ID...", nargs=-1, required=True, type=options.JOB_ID)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait no longer.",
)
@click.option("--json", "is_json", is_flag=True, help="One JSON document a line: the job at its end.")
def wait(numbers: tuple[int, ...], timeout_s: float | None, is_json: bool) -> None:
    """Wait until calculations have ended; for scripts.

    Prints a line for each, in the order of the command line, as soon as it and those before it have ended.
    Goes on after a restart of the dbserver.

    Ends with the exit code of the first calculation on the command line that did not complete: 1 failed or
    deleted, 4 aborted; 5 if one had not ended when the time was over; 0 if all are complete.
    """
    code = errors.EXIT_CLEAN
    retry_s = RETRY_S if timeout_s is None else min(RETRY_S, timeout_s)
    with DbClient(options.cluster_settings(), retry_s=retry_s) as database:
        # Before any of them ends, so that -1 and -2 are two jobs.
        jobs = [own_jobs.own_job(database, number) for number in numbers]
        for job, ended in _ends(database, jobs, timeout_s):
            if ended is None:
                render.say(f"job {job.id} has not ended in {timeout_s:g} s")
                code = code or errors.EXIT_UNFINISHED
                continue
            code = code or documents.exit_code(ended.state)
            _print(ended, is_json=is_json)
    click.get_current_context().exit(code)


def _ends(
    database: DbClient, jobs: Sequence[Job], timeout_s: float | None
) -> Iterator[tuple[Job, Job | None]]:
    """Each job and how it is at its end; None if it has not ended when the time is over."""
    ends: queue.Queue[Job | errors.QuakeGridError] = queue.Queue()
    running = [job for job in jobs if not job.state.is_final]
    threading.Thread(target=_follow, args=(database, running, ends), name="wait", daemon=True).start()
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    is_over = False
    for job in jobs:
        found: Job | errors.QuakeGridError = job
        if not job.state.is_final and not is_over:
            left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
            try:
                found = ends.get(timeout=left_s)
            except queue.Empty:
                is_over = True
        if not job.state.is_final and is_over:  # those behind it may have ended
            found = _now(database, job)
        if isinstance(found, errors.QuakeGridError):
            raise found
        yield job, found if found.state.is_final else None


def _follow(database: DbClient, jobs: Sequence[Job], ends: queue.Queue[Job | errors.QuakeGridError]) -> None:
    """Put each job into the queue when it has ended, in their order; or an error, which is the last item."""
    try:
        for job in jobs:
            database.logs.wait_for_end(job.id)
            ends.put(_now(database, job))
    except errors.QuakeGridError as exc:
        ends.put(exc)


def _now(database: DbClient, job: Job) -> Job:
    """The job as it is now; one whose row is gone was deleted."""
    try:
        return database.jobs.get_job(job.id)
    except errors.NotFoundError:
        return dataclasses.replace(job, state=JobState.DELETED)


def _print(job: Job, *, is_json: bool) -> None:
    if is_json:
        render.print_json_line(documents.job_document(job))
        return
    reason = f": {job.state_reason}" if job.state_reason else ""
    about = f" ({job.description})" if job.description else ""
    click.echo(widths.paragraph(terminal_text.one_line(f"job {job.id} {job.state}{about}{reason}"), 2))
