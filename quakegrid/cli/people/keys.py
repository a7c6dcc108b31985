"""Commands `key rotate` and `key status`: the authkey changes while calculations run."""

from __future__ import annotations

import datetime
import socket
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import click

from quakegrid import errors
from quakegrid.access.proofs import ClusterKeys
from quakegrid.cli import options
from quakegrid.cli.shell.groups import CommandGroup
from quakegrid.cli.views import render, widths
from quakegrid.clients.broker import BrokerClient
from quakegrid.install import key_rotation
from quakegrid.settings import authkeys
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials

# A running calculation renews its certificate within half a day.
SHORTEST_HOURS = 24
LONGEST_HOURS = 24 * 90


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """The authkey of a machine, by fingerprints, and the nodes that have it in a file."""

    file: Path
    fingerprint: str
    old_fingerprint: str = ""
    old_until_time: datetime.datetime | None = None
    nodes: list[str] = field(default_factory=list)


def _hours(_ctx: click.Context, _param: click.Parameter, value: int) -> int:
    if value and value < SHORTEST_HOURS:
        raise click.BadParameter(
            f"a running calculation may need {SHORTEST_HOURS} hours to renew its certificate: give as many, "
            "or more, or 0 to end the old key at once, and with it the calculations that run"
        )
    return value


@click.group(cls=CommandGroup)
def key() -> None:
    """Change the authkey while calculations run, and see what counts.

    On the master, as who can write the file with the authkey.
    """


@key.command()
@click.option(
    "--hours",
    type=click.IntRange(0, LONGEST_HOURS),
    default=168,
    show_default=True,
    callback=_hours,
    metavar="N",
    help="How long the old key counts, too: 24 or more, or 0 if it was stolen.",
)
def rotate(hours: int) -> None:
    """Put a new authkey into openquake.cfg. The old one counts for some time, so calculations go on.

    The services of this machine notice within seconds. Nodes that have the authkey in a file need the new
    file within that time; their services notice it, too. Nodes with certificates, and calculations, renew
    their certificates by themselves. People need new credentials: `quakegrid user renew NAME`.
    """
    settings, path = _own_settings()
    now_time = datetime.datetime.now(datetime.UTC)
    keys = ClusterKeys(settings.authkey, settings.old_authkey, settings.old_authkey_until_s)
    if hours and keys.has_old(now_time.timestamp()):
        raise errors.StateError(
            f"the key before still counts until {_when(keys.old_until_s)}, and only one old key can; wait, "
            "or give --hours 0: then both older keys end at once"
        )
    nodes = _nodes_with_files(settings)
    until_time = now_time + datetime.timedelta(hours=hours)
    key_rotation.rotate(path, keys.active, authkeys.new_authkey(), until_time)
    found = _status(_own_settings()[0], path, nodes)
    render.say(
        f"{path} has a new authkey, {found.fingerprint}; the services of this machine notice in seconds"
    )
    render.say(
        f"the old one, {found.old_fingerprint}, counts until {_when(until_time.timestamp())}; "
        + ("calculations go on. Until then:" if hours else "it ends now. To do:")
    )
    _say_what_to_do(found)


@key.command()
@options.output_option
def status(output: str) -> None:
    """Show which authkeys count, by their fingerprints, and what is to do until the old one ends."""
    settings, path = _own_settings()
    found = _status(settings, path, _nodes_with_files(settings))
    if output != "table":
        render.print_record(output, found)
        return
    click.echo(widths.hanging("authkey      ", f"{found.fingerprint}  in {found.file}"))
    if found.old_until_time is None:
        click.echo("old authkey  none")
        return
    is_over = found.old_until_time <= datetime.datetime.now(datetime.UTC)
    verb = "ended" if is_over else "counts until"
    click.echo(f"old authkey  {found.old_fingerprint}  {verb} {_when(found.old_until_time.timestamp())}")
    if is_over:
        render.say(f"take old_authkey and old_authkey_until out of {found.file} when you like")
    else:
        _say_what_to_do(found)


def _own_settings() -> tuple[Settings, Path]:
    """The settings of this machine, and the file with the authkey."""
    settings = options.settings()
    if not settings.authkey or settings.authkey_path is None:
        raise errors.StateError(
            "no file of this machine that you can read gives an authkey; give the command on the master, as "
            "the user of its services or as root"
        )
    return settings, settings.authkey_path


def _status(settings: Settings, path: Path, nodes: list[str]) -> KeyStatus:
    if not settings.old_authkey:
        return KeyStatus(path, credentials.fingerprint(settings.authkey), nodes=nodes)
    return KeyStatus(
        path,
        credentials.fingerprint(settings.authkey),
        credentials.fingerprint(settings.old_authkey),
        datetime.datetime.fromtimestamp(settings.old_authkey_until_s, datetime.UTC),
        nodes,
    )


def _nodes_with_files(settings: Settings) -> list[str]:
    """The other nodes that have the authkey in a file; none if the broker does not answer."""
    try:
        with closing(BrokerClient(settings)) as broker:
            found = broker.status().nodes
    except errors.QuakeGridError:
        return []
    own = {settings.broker_host, socket.gethostname()}
    return sorted(node.host for node in found if node.proof == "authkey" and node.host not in own)


def _say_what_to_do(found: KeyStatus) -> None:
    where = ", ".join(found.nodes) if found.nodes else "each other node that has the authkey in a file"
    render.say(f"- copy authkey, old_authkey and old_authkey_until to openquake.cfg on: {where}")
    render.say(
        "- each person needs a new credential: `quakegrid user renew NAME`, then `quakegrid login FILE`"
    )
    render.say("- programs of yours that use the authkey and run for longer: start them again")
    render.say("nodes with certificates and calculations renew theirs by themselves")


def _when(at_s: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at_s, datetime.UTC):%Y-%m-%d %H:%M} UTC"
