"""Command `certificate`: the three files by which a program in another language reaches the cluster."""

from __future__ import annotations

import datetime
import os
import shlex
from contextlib import closing
from pathlib import Path

import click

from quakegrid import errors
from quakegrid.access.principals import PEER_NAME, PEOPLE, PrincipalRole
from quakegrid.access.proofs import Certified
from quakegrid.cli import options
from quakegrid.cli.views import render, widths
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.settings.config import Settings

DEFAULT_DAYS = 30
FILES = ("ca.pem", "key.pem", "certificate.pem")


@click.command()
@click.option(
    "--out",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the files go; it must not have them yet.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=None,
    metavar="N",
    help=f"How long a new credential counts (default: {DEFAULT_DAYS} days).",
)
@click.option("--name", default="", metavar="NAME", help="Whose calculations it may change (default: yours).")
@click.option(
    "--role",
    type=click.Choice([role.value for role in PEOPLE]),
    default=PrincipalRole.USER.value,
    show_default=True,
    help="What it may do.",
)
@click.option("--json", "is_json", is_flag=True, help="Print addresses and paths as JSON.")
def certificate(folder: Path, days: int | None, name: str, role: str, is_json: bool) -> None:
    """Write a certificate for programs in other languages, which speak gRPC.

    Writes ca.pem, key.pem and certificate.pem. With a credential (`quakegrid login`) they are those of your
    credential. Else a new credential is issued, by an admin: `quakegrid user list` shows it, and
    `quakegrid user revoke` ends it.

    Example: `quakegrid certificate --out certs --days 90`
    """
    settings = options.cluster_settings()
    folder = folder.expanduser().absolute()
    _refuse_existing(folder)
    if settings.credential is not None:
        if name or days is not None or role != PrincipalRole.USER.value:
            raise errors.UsageError(
                "your credential says who you are, and for how long: leave out --name, --role and --days"
            )
        files, end_time = settings.credential.proof, settings.credential.end_time
    else:
        _make_folder(folder)  # first: a credential that cannot be written would count for nobody
        life = datetime.timedelta(days=days or DEFAULT_DAYS)
        with closing(DbClient(settings)) as database:
            issued, files = PeopleClient(database).issue(
                name or database.user_name, PrincipalRole(role), life
            )
        end_time = issued.end_time
    _write(folder, files)
    _tell(settings, folder, end_time, is_json=is_json)


def _refuse_existing(folder: Path) -> None:
    for file in FILES:
        if (folder / file).exists():
            raise errors.UsageError(f"{folder / file} exists; name another folder, or remove it")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise errors.UsageError(f"{folder} cannot be made ({exc.strerror}); name another folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise errors.UsageError(f"you cannot write into {folder}; name another folder")


def _write(folder: Path, files: Certified) -> None:
    """Write the files; only their owner can read the key."""
    _make_folder(folder)
    for name, content in zip(FILES, (files.ca_pem, files.key_pem, files.certificate_pem), strict=True):
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)


def _tell(settings: Settings, folder: Path, end_time: datetime.datetime, *, is_json: bool) -> None:
    if is_json:
        render.print_json(
            {
                "dbserver": settings.dbserver_address,
                "broker": settings.broker_address,
                "server_name": PEER_NAME,
                "end_time": end_time,
                "files": [folder / name for name in FILES],
            }
        )
        return
    for line in (
        f"written: {', '.join(FILES)} in {folder}; they count until {render.cell(end_time)}",
        f"dbserver {settings.dbserver_address}, broker {settings.broker_address}; gRPC with TLS",
        f"the name to check the server by (target name override): {PEER_NAME}",
    ):
        click.echo(widths.paragraph(line, 2))
    click.echo("to try it:")
    click.echo(
        f"  cd {shlex.quote(str(folder))}; grpcurl -cacert ca.pem -cert certificate.pem -key key.pem \\"
    )
    click.echo(f"    -authority {PEER_NAME} {settings.dbserver_address} list")
