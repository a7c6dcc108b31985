"""Commands about what is kept of earlier runs: `resume` of a calculation, `journals` of functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from quakegrid.cli import options, run
from quakegrid.cli.shell.groups import CommandGroup

if TYPE_CHECKING:
    from pathlib import Path


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


@click.group(cls=CommandGroup)
def journals() -> None:
    """List and forget your journals of functions.

    Programs make them by `cluster.executor(journal=NAME)`. Journals of calculations are not among them:
    `quakegrid resume` uses them, and they go with their jobs.
    """


@journals.command("list")
@options.output_option
def list_journals(output: str) -> None:
    """List your journals of functions, by name."""
    from quakegrid.cli.views import render, transfer  # noqa: PLC0415 - not for --help
    from quakegrid.journals import named  # noqa: PLC0415 - as above

    found = list(named.all_of(_state_dir()))
    if output != "table":
        render.print_listing(output, found, {"name": "name"})
        return
    rows = [
        [each.name, each.answer_count, transfer.bytes_text(each.byte_count), each.last_time, each.is_used]
        for each in found
    ]
    render.print_table(rows, ["name", "answers", "size", "last", "in use"])


@journals.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def forget(names: tuple[str, ...]) -> None:
    """Forget all answers of journals of functions: calls run again.

    What a program that is running has found out is answered to it until it ends, and is not kept.
    """
    from quakegrid import errors  # noqa: PLC0415 - not for --help
    from quakegrid.journals import named  # noqa: PLC0415 - as above

    state_dir = _state_dir()
    known = {each.name for each in named.all_of(state_dir)}
    for name in names:
        if name not in known:
            raise errors.NotFoundError(
                f"there is no journal {name}; those there are: quakegrid journals list"
            )
    for name in names:
        named.forget(named.folder_of(state_dir, name))


def _state_dir() -> Path:
    """Where the journals of programs of this person are."""
    from quakegrid.settings import config  # noqa: PLC0415 - not for --help

    return options.state_dir() or config.default_state_dir()
