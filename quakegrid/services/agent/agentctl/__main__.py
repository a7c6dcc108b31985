"""The command `agentctl`: the agent of this node, for the administrator who is logged in there."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quakegrid import __version__, errors
from quakegrid.cli import options
from quakegrid.cli.shell.groups import CommandGroup, wants_colour
from quakegrid.cli.views import live, render, widths
from quakegrid.errors import QuakeGridError
from quakegrid.nodes.template_state import TemplateKind
from quakegrid.services.agent.agentctl import commands, doctor_command, token_join
from quakegrid.services.agent.node import core_claims
from quakegrid.transport import grpc_environment

if TYPE_CHECKING:
    from quakegrid.clients.agent import AgentStatus

# More than any machine has.
MAX_CORES = 65535


@click.group(
    cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="agentctl")
@options.state_dir_option
def cli() -> None:
    """Serve this node's cores to a QuakeGrid cluster, and see what they do.

    The cluster is the one that openquake.cfg names: the same [dbserver] host, authkey and ports as on
    the master node. Or it is the one that the node joined with a token: `agentctl join --token`.
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
    help="Have other cores than other agents of this machine, such as containers, with the same folder; "
    "it is made if it is not there.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Listen there (default: [zworkers] ctrl_port; 0: any free port). For a node that joins.",
)
@click.option(
    "--leave",
    "leave_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="When stopped, first leave the fleet as `agentctl leave` does, for so long at most or until the "
    "second signal (default: 0, just stop).",
)
@click.option(
    "--temporary",
    is_flag=True,
    help="Keep nothing: have a new state directory in $TMPDIR, else /tmp, and remove it at the end.",
)
@token_join.token_option(
    "Join with this token first, as `agentctl join --token` does, unless the node has a valid certificate."
)
def serve(cores: int, claims: Path | None, temporary: bool, token: str, **joining: Any) -> None:
    """Run the agent in the foreground until SIGTERM or Ctrl-C.

    Its log goes to stderr. Exit codes: 0 stopped, 1 failed, 2 settings.
    """
    join = JoinWords(**joining)
    if not (join.join or token) and (join.port is not None or join.leave_s):
        raise click.UsageError("--port and --leave are for a node that joins: give --join or --token, too")
    if temporary and options.state_dir():
        raise click.UsageError("give --temporary or --state-dir, not both")
    _claims = core_claims.limit_cores(cores, claims)  # the claims last as long as this process
    with tempfile.TemporaryDirectory(prefix="quakegrid-") if temporary else nullcontext() as folder:
        code = _run(Path(folder) if folder else options.state_dir(), token, join)
    click.get_current_context().exit(code)


@dataclass(frozen=True, slots=True)
class JoinWords:
    """What the command line says of joining; see the options."""

    join: str
    port: int | None
    leave_s: float


def _run(state_dir: Path | None, token: str, words: JoinWords) -> int:
    """Join with a token if that is needed, and serve; returns the exit code."""
    from quakegrid.services.agent.__main__ import JoinOptions, run  # noqa: PLC0415 - `agentctl --help` needs no event loop

    if token and not token_join.has_certificate(state_dir):
        token_join.certify(state_dir, token, master=words.join)
    return run(state_dir, join=JoinOptions(words.join, words.port, words.leave_s))


@cli.command()
@options.state_dir_option
@click.option("--watch", is_flag=True, help="Go on showing what changes, until Ctrl-C.")
@click.option("--long", "is_long", is_flag=True, help="A line for each worker, however many there are.")
@options.output_option
def status(watch: bool, is_long: bool, output: str) -> None:
    """Show this node's cores, memory, template, workers and drivers.

    Workers have a line each, or, when there are many, a line for each session. With --watch, json is one
    document a line; it ends with exit code 3 when the agent stops.
    """
    from quakegrid.clients.agent import AgentClient, local_host  # noqa: PLC0415 - as above

    settings = commands.node_settings()
    show = functools.partial(_print_status, is_long=is_long)
    with closing(AgentClient(settings, local_host(settings))) as agent:
        if watch:
            live.show(agent.watch_status(), output, show, render.plain)
        else:
            show(output, agent.status())


def _print_status(output: str, found: AgentStatus, *, is_long: bool) -> None:
    from quakegrid.services.agent.agentctl import status_view  # noqa: PLC0415 - as above

    if output == "json":
        render.print_json(found)
        return
    render.print_record(output, status_view.summary(found))
    if output == "quiet":
        return
    if found.workers:
        render.print_listing(output, *status_view.workers(found, is_long=is_long))
    if found.drivers:
        render.print_listing(
            output, found.drivers, {"pid": "driver", "is_detached": "detached", "command": "command"}
        )


@cli.command()
@click.argument("count")
@options.state_dir_option
@options.output_option
def cores(count: str, output: str) -> None:
    """Let this node give COUNT cores to the cluster, or "all", from now on and after restarts.

    With fewer cores, workers end after the tasks that they run, and nothing is lost. With 0 the node stays
    in the cluster and gives no cores. With more cores, workers start at once. [zworkers] host_cores stays the
    upper bound.
    """
    from quakegrid.clients.agent import local_client  # noqa: PLC0415 - as above

    if count != "all" and not (count.isdecimal() and int(count) <= MAX_CORES):
        raise click.UsageError(f"{count!r} is no number of cores: give one from 0 to {MAX_CORES}, or all")
    with closing(local_client(commands.node_settings())) as agent:
        given, every = agent.set_cores(-1 if count == "all" else int(count))
    render.print_record(output, {"cores": given, "of": every})


@cli.command()
@options.state_dir_option
def warm() -> None:
    """Wait until this node's template has loaded what [agent] preload names.

    This includes a template with newer code that is loading. The exit code is 1 if something could not be
    loaded; a message says why.
    """
    from quakegrid.clients.agent import AgentClient, local_host  # noqa: PLC0415 - as above

    settings = commands.node_settings()
    with closing(AgentClient(settings, local_host(settings))) as agent:
        statuses = (status for status in agent.watch_status() if not status.is_refreshing)
        states = (status.template_state for status in statuses)
        state = next(each for each in states if each.kind is not TemplateKind.LOADING)
    is_warm = state.kind is TemplateKind.WARM
    if is_warm:
        click.echo(widths.paragraph(f"template {state}", 2))
    else:
        render.say(f"template {state}")
    click.get_current_context().exit(int(not is_warm))


cli.add_command(doctor_command.doctor)
for command in commands.COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line of this process and exit."""
    grpc_environment.tell(os.environ)
    try:
        code = cli.main(prog_name="agentctl", standalone_mode=False, color=wants_colour())
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except click.Abort:
        code = errors.EXIT_STOPPED
    except QuakeGridError as exc:
        render.say(f"agentctl: {exc}")
        code = exc.exit_code
    sys.exit(code or 0)
