"""Commands `login`, `logout` and `whoami`: the credential of the person who sits here."""

from __future__ import annotations

import datetime
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from quakegrid.cli import options
from quakegrid.cli.views import render
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.settings import credential_files
from quakegrid.settings.config import Settings


@dataclass(frozen=True, slots=True)
class Oneself:
    """Who one is in a cluster; `end_time` is None where the authkey proves it."""

    name: str
    role: str
    cluster: str
    dbserver: str
    end_time: datetime.datetime | None


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
def login(file: Path) -> None:
    """Use a cluster with the credential that its admin gave you.

    FILE is copied to a place where all commands look. Remove it then: whoever has it can act as you.
    A credential that you already have for the same cluster is replaced.
    """
    credential = credential_files.read(file.expanduser())
    credential.check(datetime.datetime.now(datetime.UTC))
    path = credential_files.put(credential)
    render.say(
        f"you are {credential.name} ({credential.role}) in the cluster {credential.cluster} until "
        f"{render.cell(credential.end_time)}"
    )
    render.say(f"kept in {path}; remove {file} now")
    render.say(f"try it: quakegrid --cluster {credential.cluster} whoami")


@click.command()
@click.argument("name", metavar="CLUSTER")
def logout(name: str) -> None:
    """Forget your credential for a cluster.

    It still counts for whoever has a copy of it; an admin can revoke it.
    """
    credential_files.remove(name)
    render.say(f"the credential for the cluster {name} is gone from this machine")


@click.command()
@options.output_option
def whoami(output: str) -> None:
    """Say who you are, and in which cluster.

    The cluster is asked whether it sees you so. Ends with exit code 2 if it does not accept your credential,
    and with 3 if it does not answer.
    """
    settings = options.cluster_settings()
    if settings.credential is not None:
        render.print_record(output, _oneself(settings, settings.credential.role))
    with closing(DbClient(settings)) as database:
        role, _name = PeopleClient(database).who_am_i()
    if settings.credential is None:
        render.print_record(output, _oneself(settings, role))


def _oneself(settings: Settings, role: str) -> Oneself:
    credential = settings.credential
    return Oneself(
        name=settings.user_name,
        role=role,
        cluster=credential.cluster if credential else "",
        dbserver=settings.dbserver_address,
        end_time=credential.end_time if credential else None,
    )
