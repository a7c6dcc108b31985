"""The command `agentctl`: the agent of this node, for the administrator who is logged in there."""

from __future__ import annotations

import sys
from contextlib import closing

import click

from quakegrid import __version__
from quakegrid.cli import options, render
from quakegrid.errors import QuakeGridError
from quakegrid.template_state import TemplateKind


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
def serve() -> None:
    """Run the agent in the foreground until SIGTERM or Ctrl-C.

    Its log goes to stderr. Exit codes: 0 stopped, 1 failed, 2 settings.
    """
    from services.agent.__main__ import run  # noqa: PLC0415 - `agentctl --help` needs no event loop

    click.get_current_context().exit(run(options.state_dir()))


@cli.command()
@options.state_dir_option
@options.output_option
def status(output: str) -> None:
    """Show the template, the workers and the drivers of this node."""
    from quakegrid.agents import AgentClient  # noqa: PLC0415 - as above

    with closing(AgentClient(options.settings())) as agent:
        found = agent.status()
    if output == "json":
        render.print_json(found)
        return
    template = str(found.template_state)
    if found.is_refreshing:
        template = f"{template}; newer code is loading"
    if found.engine_version:
        template = f"{template} (openquake.engine {found.engine_version})"
    summary = {"node": found.node, "cores": found.core_count, "template": template, "version": found.version}
    render.print_record(output, summary)
    if output == "quiet":
        return
    if found.workers:
        columns = {"worker_id": "worker", "session_id": "session", "pid": "pid", "core": "core"}
        render.print_listing(output, found.workers, columns)
    if found.drivers:
        render.print_listing(output, found.drivers, {"pid": "driver", "command": "command"})


@cli.command()
@options.state_dir_option
def warm() -> None:
    """Wait until this node's template has loaded what [agent] preload names.

    Also when a template with newer code is loading. Ends with exit code 1, and says why, if something could
    not be loaded.
    """
    from quakegrid.agents import AgentClient  # noqa: PLC0415 - as above

    with closing(AgentClient(options.settings())) as agent:
        statuses = (status for status in agent.watch() if not status.is_refreshing)
        states = (status.template_state for status in statuses)
        state = next(each for each in states if each.kind is not TemplateKind.LOADING)
    is_warm = state.kind is TemplateKind.WARM
    click.echo(f"template {state}", err=not is_warm)
    click.get_current_context().exit(int(not is_warm))


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
