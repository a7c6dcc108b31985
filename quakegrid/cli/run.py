"""Command `run`: its options, and the results that it prints. `following/runs.py` runs and follows.

Nothing heavy is imported before the driver is at work.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.views import render, widths
from quakegrid.cli.views.run_report import JobResult, RunReport
from quakegrid.settings.agent_limits import MAX_CORES_PER_WORKER

if TYPE_CHECKING:
    from quakegrid.settings.config import Settings


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What to run and how, by the options of `quakegrid run`.

    Args:
        job_inis: files of one calculation.
        hc: id of the job to start from, or a file of the engine; None for none.
        exports: formats, with commas.
        export_dir: where to export to; implies csv.
        params: KEY=VALUE, in place of values of the files.
        weight: share of the cores beside other calculations of this user.
        cores_per_worker: of each worker, and its threads.
    """

    job_inis: Sequence[str]
    hc: str | None = None
    exports: str | None = None
    export_dir: Path | None = None
    params: Sequence[str] = ()
    weight: float | None = None
    cores_per_worker: int | None = None


@click.command()
@click.argument("job_inis", metavar="JOB.ini...", nargs=-1, required=True)
@click.option("--hc", metavar="ID", help="Start from this earlier job (negative: the nth last of yours).")
@click.option("--exports", metavar="FORMATS", help="Export all outputs at the end, such as csv or csv,hdf5.")
@click.option(
    "--export-dir", type=click.Path(path_type=Path, file_okay=False), help="Where to export to (implies csv)."
)
@click.option(
    "-p", "--param", "params", metavar="KEY=VALUE", multiple=True, help="Override a value of the file."
)
@click.option(
    "--weight",
    type=click.FloatRange(0.01, 100),
    metavar="W",
    help="Take W times the cores of your other calculations (default: 1). Below 1: others go first.",
)
@click.option(
    "--cores-per-worker",
    type=click.IntRange(1, MAX_CORES_PER_WORKER),
    metavar="N",
    help="Give each worker N cores, and as many threads, where they can be had (default: 1).",
)
@click.option(
    "--detach", is_flag=True, help="Print the job's id when its inputs were read, and let it go on alone."
)
@click.option(
    "--notify",
    metavar="COMMAND|URL",
    multiple=True,
    callback=lambda _ctx, _param, values: [_checked_target(value) for value in values],
    help="When it has ended, run this command, or POST to this URL, with the job as JSON (repeatable).",
)
@click.option("-v", "--verbose", is_flag=True, help="Show all of the log from level INFO, not only warnings.")
@options.output_option
def run(*, detach: bool, notify: list[str], verbose: bool, output: str, **wanted: Any) -> None:
    """Run calculations and follow them.

    Several files are parts of one calculation, as in `oq engine --run job_haz.ini job_risk.ini`.

    With a credential (`quakegrid login`) it works on any machine, without engine and cluster: sends the
    inputs to the master, only those that it has not, and brings the exports back.

    On a terminal, Ctrl-C asks whether to abort the calculation, or to detach: it goes on without this
    command, and `quakegrid attach ID` follows it again. A second Ctrl-C aborts. In a script, Ctrl-C aborts.
    A terminal that is closed, and a lost connection, detach.

    Ends with exit code 0 if all is well or the calculation was detached, 1 if a job failed, 2 if a job file
    is wrong, 3 if no agent runs here, 4 if the calculation was aborted.
    """
    from quakegrid.cli.following import runs  # noqa: PLC0415 - not for --help and wrong options
    from quakegrid.clients.drivers import DriverRequest  # noqa: PLC0415 - as above

    settings = options.machine_settings()
    plan = RunPlan(**wanted)
    plan = replace(plan, hc=earlier_job(settings, plan.hc))
    argv = engine_argv(plan)
    if settings.credential is not None:
        from quakegrid.cli.desk import runs as desk_runs  # noqa: PLC0415 - only with a credential

        manner = desk_runs.Manner(tuple(notify), verbose=verbose, detaches=detach)
        report = desk_runs.execute(settings, plan, manner)
    else:
        request = DriverRequest(argv, is_detachable=True, notify=notify)
        report = runs.execute(settings, request, verbose=verbose, detaches=detach)
    if report.is_left:
        print_left(report, output, is_wanted=detach)
    else:
        print_report(report, output, is_known=bool(settings.proof))
    click.get_current_context().exit(report.exit_code)


def _checked_target(target: str) -> str:
    from quakegrid.notify import targets  # noqa: PLC0415 - seldom needed

    return targets.check(target)


def earlier_job(settings: Settings, hc: str | None) -> str | None:
    """The job or file to start from; a negative number counts the user's own jobs, and becomes an id.

    Who reaches the agent only has nobody to ask; then the driver counts.
    """
    try:
        number = int(hc or "")
    except ValueError:  # none, or a file
        return hc
    options.JOB_ID.convert(number, None, None)
    if number > 0 or not settings.proof:
        return hc
    from quakegrid.clients.dbserver import own_jobs  # noqa: PLC0415 - seldom needed
    from quakegrid.clients.dbserver.client import DbClient  # noqa: PLC0415

    with DbClient(settings) as database:
        return str(own_jobs.own_job_id(database, number))


def engine_argv(plan: RunPlan) -> list[str]:
    """The engine's arguments for a run.

    Raises:
        UsageError: a file does not exist, or a parameter cannot be passed.
    """
    for job_ini in plan.job_inis:
        _check_job_file(job_ini)
    for param in plan.params:
        _check_param(param)
    folder = plan.export_dir and plan.export_dir.expanduser().absolute()
    optional = {
        "--param": ",".join(plan.params) or None,
        "--hc": plan.hc,
        "--weight": plan.weight,
        "--cores-per-worker": plan.cores_per_worker,
        "--export-dir": folder,
        "--exports": plan.exports or ("csv" if folder else None),
    }
    given = [(option, str(value)) for option, value in optional.items() if value is not None]
    return ["engine", "--run", *plan.job_inis, *itertools.chain.from_iterable(given)]


def _check_param(param: str) -> None:
    key, equals, value = param.partition("=")
    if not key.strip() or not equals:
        raise errors.UsageError(f"-p {param}: give KEY=VALUE, such as -p truncation_level=3")
    if "," in value:
        raise errors.UsageError(
            f"-p {param}: a value with a comma cannot be passed; put it into the job file"
        )


def _check_job_file(job_ini: str) -> None:
    path = Path(job_ini).expanduser()
    try:
        is_file = path.is_file()
        what = "is a folder; name the job file in it" if path.is_dir() else "does not exist"
    except PermissionError:
        is_file, what = False, ""
    if not what or (is_file and not os.access(path, os.R_OK)):
        from quakegrid.clients import drivers  # noqa: PLC0415 - seldom needed here

        raise errors.UsageError(
            f"user {drivers.own_name()} may not read {job_ini}; put the model into a folder that "
            "this user may read"
        )
    if not is_file:
        raise errors.UsageError(f"{job_ini} {what}{_meant(path)}")


def _meant(path: Path) -> str:
    """A file or folder that is probably meant, as a question; empty if there is none."""
    from quakegrid.cli.shell import near_words  # noqa: PLC0415 - seldom needed

    while not path.parent.is_dir():
        path = path.parent
    with contextlib.suppress(OSError):
        if not path.exists() and (
            near := near_words.nearest(path.name, [each.name for each in path.parent.iterdir()])
        ):
            return f"; is {path.with_name(near)} meant?"
    return ""


def print_left(report: RunReport, output: str, *, is_wanted: bool = False) -> None:
    """Print the ids of jobs that go on, and how to follow them again.

    Args:
        report: of the jobs.
        output: "table", "json" or "quiet".
        is_wanted: whether the ids are what the command was to print.
    """
    if report.exit_code == 128 + signal.SIGHUP:  # there is nothing any more to print to
        return
    if output == "json":
        render.print_json({"job_ids": list(report.jobs), "exit_code": report.exit_code})
    for job_id in report.jobs:
        if is_wanted and output != "json":
            click.echo(str(job_id))
        render.say(f"job {job_id} goes on; to follow it: quakegrid attach {job_id}")


def print_report(report: RunReport, output: str, *, is_known: bool = True) -> None:
    """Print the result of each job: outputs to stdout, failures and hints to stderr.

    Args:
        report: of the run.
        output: table, json or quiet.
        is_known: the person can prove to the cluster who they are, so that hints for them are of use.
    """
    if output == "json":
        render.print_json({**render.plain(report), "jobs": list(report.jobs.values())})
    for job in report.jobs.values():
        if output == "quiet":
            click.echo(str(job.job_id))
        elif output == "table" and job.state == "complete":
            _print_complete(job, report)
            _print_next(job, report, is_known=is_known)
        if job.state != "complete":
            _print_incomplete(job)
    if report.not_exported:
        _print_not_exported(report)
    if report.error:
        render.say(f"quakegrid: {report.error}")


def _print_incomplete(job: JobResult) -> None:
    if job.state == "aborted":
        render.say(f"job {job.job_id} aborted" + (f": {job.error}" if job.error else ""))
        return
    render.say(f"job {job.job_id} {job.state}: {job.error or 'see its log'}")
    render.say(f"its log: quakegrid jobs logs {job.job_id}")


def _print_not_exported(report: RunReport) -> None:
    jobs = " and ".join(f"job {job_id}" for job_id in report.jobs)
    count = len(report.not_exported)
    render.say(f"{jobs}: {count} output{'s' * (count > 1)} could not be exported")
    for line in report.not_exported:
        render.say(f"  {line}")
    for job_id in report.jobs:
        render.say(f"to try again: quakegrid jobs export {job_id} DIR")


def _print_complete(job: JobResult, report: RunReport) -> None:
    click.echo(
        widths.paragraph(f"job {job.job_id} complete in {report.duration_s:.1f} s: {job.description}", 2)
    )
    click.echo(f"datastore: {job.datastore}")
    if job.outputs:
        render.print_table([[row.id, row.name, row.ds_key] for row in job.outputs], ["id", "output", "key"])
    for path in report.exported:
        click.echo(f"exported: {path}")


def _print_next(job: JobResult, report: RunReport, *, is_known: bool) -> None:
    if report.not_exported or not is_known:
        return
    hint = f"next: quakegrid jobs show {job.job_id}"
    render.say(hint if report.exported else f"{hint}, quakegrid jobs export {job.job_id} DIR")
