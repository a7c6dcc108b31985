"""The command `agentctl`: the agent of this node, for the administrator who is logged in there."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quakegrid import __version__
from quakegrid.cli import live, options, render
from quakegrid.errors import QuakeGridError
from services.agent import core_claims, doctor_command, node_commands

if TYPE_CHECKING:
    from quakegrid.agents import AgentStatus


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="agentctl")
@options.state_dir_option
def cli() -> None:
    """Serve this node's cores to a QuakeGrid cluster, and see what they do.

    The cluster is the one that openquake.cfg names: the same [dbserver] host, authkey and ports as on
    the master node.
    """


@cli.command()
@options.state_dir_option
@click.option(
    "--join",
    metavar="MASTER",
    default="",
    help="Belong to the fleet of this master, as `agentctl join` does.",
)
@click.option(
    "--cores",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="Have N cores of this machine (default, and 0: all that it may use).",
)
@click.option(
    "--claims",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Have other cores than other agents of this machine, such as containers, with the same folder.",
)
def serve(join: str, cores: int, claims: Path | None) -> None:
    """Run the agent in the foreground until SIGTERM or Ctrl-C.

    Its log goes to stderr. Exit codes: 0 stopped, 1 failed, 2 settings.
    """
    from services.agent.__main__ import run  # noqa: PLC0415 - `agentctl --help` needs no event loop

    _claims = core_claims.limit_cores(cores, claims)  # they live as long as we do
    click.get_current_context().exit(run(options.state_dir(), join=join))


@cli.command()
@options.state_dir_option
@click.option("--watch", is_flag=True, help="Go on showing what changes, until Ctrl-C.")
@options.output_option
def status(watch: bool, output: str) -> None:
    """Show the template, the workers and the drivers of this node.

    With --watch, json is one document a line; it ends with exit code 3 when the agent stops.
    """
    from quakegrid.agents import AgentClient, local_host  # noqa: PLC0415 - as above

    settings = node_commands.node_settings()
    with closing(AgentClient(settings, local_host(settings))) as agent:
        if watch:
            live.show(agent.watch_status(), output, _print_status, render.plain)
        else:
            _print_status(output, agent.status())


def _print_status(output: str, found: AgentStatus) -> None:
    if output == "json":
        render.print_json(found)
        return
    template = found.template_state
    if found.engine_version:
        template = f"{template} (openquake.engine {found.engine_version})"
    cores = f"{found.core_count} of {found.total_core_count}"
    summary = {"node": found.node, "service": found.service, "cores": cores, "template": template}
    summary |= (
        {"master": found.master, "version": found.version} if found.master else {"version": found.version}
    )
    render.print_record(output, summary)
    if output == "quiet":
        return
    if found.workers:
        columns = {"worker_id": "worker", "session_id": "session", "pid": "pid", "core": "core"}
        render.print_listing(output, found.workers, columns)
    if found.drivers:
        render.print_listing(output, found.drivers, {"pid": "driver", "command": "command"})


cli.add_command(doctor_command.doctor)
for command in node_commands.COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line of this process and exit."""
    try:
        code = cli.main(prog_name="agentctl", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except click.Abort:
        code = 4
    except QuakeGridError as exc:
        click.echo(f"agentctl: {exc}", err=True)
        code = exc.exit_code
    sys.exit(code or 0)
