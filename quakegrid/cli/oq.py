"""Command `oq`: hands its arguments, untouched, to the engine's own command line in a warm driver.

Does not read the arguments, not even `--help`; but `oq webui start` starts the web service of this cluster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.clients import drivers

if TYPE_CHECKING:
    from quakegrid.settings.config import Settings

HELP = {"-h", "--help"}


class Untouched(click.Command):
    """A command that takes every argument as it stands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the arguments; parse none."""
        ctx.params["args"] = tuple(args)
        return []


@click.command(cls=Untouched, add_help_option=False, options_metavar="ARGS...")
def oq(args: tuple[str, ...]) -> None:
    """Run any command of the OpenQuake engine, unchanged.

    `quakegrid oq engine --run job.ini` is `oq engine --run job.ini` on this cluster, in an engine that is
    loaded already. All arguments go to the engine, `--help` too: `quakegrid oq engine --help`.
    """
    ctx = click.get_current_context()
    if args[:2] == ("webui", "start") and not HELP & set(args):
        web_pages(options.cluster_settings(), args[2:])
        return
    try:
        code = drivers.run_driver(options.machine_settings(), args, mode="oq")
    except errors.PeerUnreachableError:
        if args not in {("--help",), ("-h",)}:
            raise
        click.echo(ctx.get_help())
        code = 0
    ctx.exit(code)


def web_pages(settings: Settings, args: Sequence[str]) -> None:
    """Start the web service unless it runs, and say where its pages are.

    Args:
        settings: of the cluster.
        args: what follows `webui start`: an address, which is a setting here, and options for a browser.
    Raises:
        StateError: this cluster has no web service.
        QuakeGridError: it could not be started.
    """
    from quakegrid.cli.views.render import say  # noqa: PLC0415 - only here, as the others
    from quakegrid.machine import local_services, own_cluster, service_files  # noqa: PLC0415
    from quakegrid.settings import installation  # noqa: PLC0415

    if installation.NOTES.exists() or settings.credential is not None or not settings.web_port:
        raise errors.StateError(
            "this cluster has no web service: one runs on a machine of one's own cluster, where [web] port "
            "in openquake.cfg is not 0"
        )
    with own_cluster.locked(
        settings.state_dir, lambda: say("another `quakegrid up` or `down` is at work; waiting for it")
    ):
        record = service_files.read(settings, "web")
        if record is None:
            local_services.check_ports(settings, ["web"])
            local_services.start(settings, ["web"])
            record = service_files.read(settings, "web")
    address = record.address if record else f"{settings.web_listen}:{settings.web_port}"
    say(f"The web pages of this cluster are at {settings.web_scheme}://{address}/")
    asked = [word for word in args if not word.startswith("-")]
    if asked and asked[0] != address:
        say(f"note: not at {asked[0]}; [web] listen and port in openquake.cfg say where")
