"""Command `resume`: lets a calculation go on whose driver has died, or that failed or was aborted."""

from __future__ import annotations

import click

from quakegrid.cli import options, run


@click.command(context_settings=options.NEGATIVE_IDS)
@click.argument("job_id", metavar="ID", type=options.JOB_ID)
@click.option("--anyway", is_flag=True, help="If its journal cannot be used, compute all of it anew.")
@click.option("--detach", is_flag=True, help="Let it go on alone when its inputs were read.")
@click.option("-v", "--verbose", is_flag=True, help="Show all of the log from level INFO, not only warnings.")
@options.output_option
def resume(job_id: int, anyway: bool, detach: bool, verbose: bool, output: str) -> None:
    """Let a calculation that failed or was aborted go on.

    It keeps its id, log, datastore and options, and works in its folder and environment. What its tasks have
    computed is taken from its journal, on the machine where it was started. Partial results that it had
    stored are removed first. Refused if its inputs, the engine, QuakeGrid or settings that count have
    changed.

    Ends with the exit codes of `quakegrid run`.
    """
    from quakegrid.cli.following import runs  # noqa: PLC0415 - not for --help and wrong options
    from quakegrid.clients.drivers import DriverRequest  # noqa: PLC0415 - as above

    settings = options.machine_settings()
    number = run.earlier_job(settings, str(job_id))
    argv = ["resume", str(number), *(["--anyway"] if anyway else [])]
    request = DriverRequest(argv, is_detachable=True)
    report = runs.execute(settings, request, verbose=verbose, detaches=detach)
    if report.is_left:
        run.print_left(report, output, is_wanted=detach)
    else:
        run.print_report(report, output)
    click.get_current_context().exit(report.exit_code)
