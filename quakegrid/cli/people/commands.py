"""Commands `user ...`: credentials for people, given and revoked by an admin or by who holds the authkey."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from quakegrid import errors
from quakegrid.access.principals import PEOPLE, PrincipalRole
from quakegrid.cli import options
from quakegrid.cli.people import passwords
from quakegrid.cli.shell.groups import CommandGroup
from quakegrid.cli.views import render
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import (
    IssuedCredential,
    PasswordHolder,
    PeopleClient,
    RevokedCredentials,
)
from quakegrid.clients.web import web_client
from quakegrid.jobs.filters import JobFilter
from quakegrid.jobs.states import JobState
from quakegrid.settings import credential_files
from quakegrid.settings.config import Settings
from quakegrid.settings.credential_files import CredentialFile
from quakegrid.settings.hosts import is_loopback

F = TypeVar("F", bound=Callable[..., Any])
# Far more than one person has at once.
MOST_JOBS = 100_000
ROLES = [role.value for role in PEOPLE]
COLUMNS = {
    "name": "name",
    "role": "role",
    "short_id": "id",
    "state": "state",
    "issue_time": "issued",
    "end_time": "ends",
    "issuer": "by",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a credential is to be made."""

    days: int
    file: Path | None
    address: str
    cluster_name: str


def _credential_options(command: F) -> F:
    """Add the options of commands that write a credential, passed as `wanted`."""
    for option in (
        click.option(
            "--days",
            type=click.IntRange(1, 3650),
            default=365,
            show_default=True,
            metavar="N",
            help="How long the credential counts.",
        ),
        click.option(
            "--file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Where to write the credential (default: NAME.credential).",
        ),
        click.option(
            "--address",
            default="",
            metavar="HOST",
            help="How people reach the master (default: [dbserver] host).",
        ),
        click.option(
            "--cluster-name",
            default="",
            help="What people call this cluster (default: as before, else the master's name).",
        ),
    ):
        command = option(command)
    return command


@click.group(cls=CommandGroup)
def user() -> None:
    """Give people credentials or passwords, and revoke them.

    On the master, as who can read the authkey, or from anywhere with the credential of an admin.
    """


@user.command()
@click.argument("name", metavar="NAME")
@click.option("--role", type=click.Choice(ROLES), default=PrincipalRole.USER.value, show_default=True)
@click.option(
    "--password",
    "has_password",
    is_flag=True,
    help="Set a password for the web pages, and write no credential.",
)
@_credential_options
def add(name: str, role: str, has_password: bool, **wanted: Any) -> None:
    """Write a credential for a person, who then uses the cluster by `quakegrid login FILE`.

    NAME is the account under which the person runs calculations: jobs of that name are theirs. A user sees
    all jobs, and changes only their own. An operator also changes those of others, starts and stops nodes,
    and cares for the database. An admin also gives and revokes credentials.

    With --password the person logs in at the web pages instead, where users see their own and shared jobs.
    """
    if has_password:
        passwords.set_password(name, passwords.ask(), PrincipalRole(role))
        return
    _issue(name, lambda _people: PrincipalRole(role), Wanted(**wanted), is_only=False)


@user.command()
@click.argument("name", metavar="NAME")
@click.option("--only", is_flag=True, help="Revoke all earlier credentials of the person.")
@_credential_options
def renew(name: str, only: bool, **wanted: Any) -> None:
    """Write a new credential for a person, with the same role.

    The earlier one counts until its end, unless you give --only.
    """

    def last_role(people: PeopleClient) -> PrincipalRole:
        found = [each for each in people.list_all() if each.name == name]
        if not found:
            raise errors.NotFoundError(f"nobody here is called {name}; `quakegrid user add {name}` adds them")
        return PrincipalRole(max(found, key=lambda each: each.issue_time).role)

    _issue(name, last_role, Wanted(**wanted), is_only=only)


@user.command(name="role")
@click.argument("name", metavar="NAME")
@click.argument("role", type=click.Choice(ROLES))
@_credential_options
def change_role(name: str, role: str, **wanted: Any) -> None:
    """Give a person another role: write a new credential, and revoke all earlier ones."""

    def known(people: PeopleClient) -> PrincipalRole:
        people.find_valid(name)
        return PrincipalRole(role)

    _issue(name, known, Wanted(**wanted), is_only=True)


@user.command()
@click.argument("name", metavar="NAME")
@click.option("--id", "credential_id", default="", metavar="ID", help="Only the one whose id begins so.")
@click.option(
    "--end-jobs/--keep-jobs",
    "is_ending",
    default=False,
    show_default="--keep-jobs",
    help="Abort what is executing or submitted for the person, or let it go on.",
)
@options.plain_output_option
def revoke(name: str, credential_id: str, is_ending: bool, output: str) -> None:
    """Revoke all credentials of a person, the password, and all logins and tokens at the web pages.

    Tokens for nodes that the person has made admit nobody any more, also with --id; nodes that joined with
    them stay. The dbserver refuses all that at once, other services as soon as they hear of it, within
    moments. Jobs of the person go on, unless you give --end-jobs.
    """
    if credential_id and is_ending:
        raise errors.UsageError("--end-jobs is for a person who is to have no credential: leave out --id")
    settings = options.cluster_settings()
    with closing(DbClient(settings)) as database:
        found = PeopleClient(database).revoke(name, credential_id)
        if output != "json":
            _say_revoked(name, found)
        try:
            ended = _end_jobs(settings, database, name) if is_ending else None
        except errors.QuakeGridError:
            if output == "json":  # which is not to come
                _say_revoked(name, found)
            raise
    if output == "json":
        ids, count = ended or ([], 0)
        render.print_json(render.plain(found) | {"aborted_job_ids": ids, "ended_session_count": count})
    elif ended is not None:
        _say_ended(name, *ended)


def _say_revoked(name: str, found: RevokedCredentials) -> None:
    for each in found.credentials:
        render.say(f"revoked: {each.name} ({each.role}) {each.id[:8]}")
    if found.had_password:
        render.say(f"revoked: the password of {name}")
    if found.web_token_count:
        render.say(f"ended: {found.web_token_count} tokens and logins of {name} at the web pages")
    _say_node_tokens(name, found.node_token_count)
    if not (found.credentials or found.had_password or found.web_token_count):
        render.say(f"{name} has no valid credential")


def _say_node_tokens(name: str, count: int) -> None:
    if count:
        render.say(
            f"ended: {count} token{'s' if count > 1 else ''} for nodes that {name} had made; "
            "`quakegrid token create --node` makes others"
        )


def _end_jobs(settings: Settings, database: DbClient, name: str) -> tuple[list[int], int]:
    """Abort what is executing or submitted for a person, and the jobs that have not begun.

    Returns:
        The jobs, and how many sessions ended.
    """
    wanted = JobFilter(user_name=name, states=[JobState.CREATED, JobState.SUBMITTED, JobState.EXECUTING])
    with closing(BrokerClient(settings)) as broker:
        job_ids, session_count = broker.end_sessions(name)
        for job in database.jobs.list_jobs(MOST_JOBS, wanted):
            # One that has ended meanwhile needs no abort.
            with contextlib.suppress(errors.NotFoundError, errors.StateError):
                broker.abort_job(job.id)
                job_ids.append(job.id)
    return sorted(set(job_ids)), session_count


def _say_ended(name: str, job_ids: list[int], session_count: int) -> None:
    for job_id in job_ids:
        render.say(f"job {job_id} aborted")
    if session_count and not job_ids:
        render.say(f"sessions of {name} without jobs ended: {session_count}")
    elif not job_ids:
        render.say(f"nothing of {name} was executing or submitted")


user.add_command(passwords.password)


@user.command(name="list")
@options.output_option
def list_all(output: str) -> None:
    """List all credentials, also those that have ended, and who has a password for the web pages."""
    with closing(DbClient(options.cluster_settings())) as database:
        people = PeopleClient(database)
        found, holders = people.list_all(), people.list_passwords()
    now_time = datetime.datetime.now(datetime.UTC)
    rows = [_shown(each, now_time) for each in found] + [_shown_holder(each) for each in holders]
    render.print_listing(output, sorted(rows, key=lambda row: str(row["name"])), COLUMNS)


def _shown(found: IssuedCredential, now_time: datetime.datetime) -> dict[str, Any]:
    return {
        "name": found.name,
        "role": found.role,
        "id": found.id,
        "short_id": found.id[:8],
        "state": found.state(now_time),
        "issue_time": found.issue_time,
        "end_time": found.end_time,
        "revocation_time": found.revocation_time,
        "issuer": found.issuer,
    }


def _shown_holder(found: PasswordHolder) -> dict[str, Any]:
    """A password has no id and no end."""
    return {
        "name": found.name,
        "role": found.role,
        "id": "",
        "short_id": "password",
        "state": "valid",
        "issue_time": found.change_time,
        "end_time": None,
        "revocation_time": None,
        "issuer": found.changer,
    }


def _issue(
    name: str, find_role: Callable[[PeopleClient], PrincipalRole], wanted: Wanted, *, is_only: bool
) -> None:
    """Have a credential issued, and write it into a file."""
    settings = options.cluster_settings()
    path = wanted.file.expanduser() if wanted.file else Path(f"{name}.credential")
    dbserver, broker = _addresses(settings, wanted.address)
    with closing(DbClient(settings)) as database:
        people = PeopleClient(database)
        role = find_role(people)
        credential_files.refuse_existing(path)
        life = datetime.timedelta(days=wanted.days)
        issued, proof = people.issue(name, role, life, is_only=is_only, cluster=wanted.cluster_name)
        try:
            credential = CredentialFile(
                cluster=issued.cluster,
                name=issued.name,
                role=issued.role,
                id=issued.id,
                end_time=issued.end_time,
                dbserver=dbserver,
                broker=broker,
                proof=proof,
                web=_web_address(settings, dbserver),
            )
            credential_files.write(path, credential)
        except BaseException:
            people.revoke(issued.name, issued.id)
            raise
    _say_node_tokens(issued.name, issued.node_token_count)
    render.say(f"{path}: {issued.name} ({issued.role}) until {render.cell(issued.end_time)}")
    render.say(f"whoever has this file acts as {issued.name}: hand it over safely, then remove it here")
    if is_loopback(credential_files.split_address(dbserver)[0]):
        render.say(
            "it works on this machine only, since the cluster is on loopback; --address names the master"
        )


def _web_address(settings: Settings, dbserver: str) -> str:
    """Where people reach the web service: on the master; empty if there is none."""
    if settings.credential is not None:
        return settings.credential.web
    host, _port = credential_files.split_address(dbserver)
    return web_client.address_at(settings, host) if settings.web_port else ""


def _addresses(settings: Settings, host: str) -> tuple[str, str]:
    """Where people reach dbserver and broker."""
    return (
        f"{host or settings.dbserver_host}:{settings.dbserver_port}",
        f"{host or settings.broker_host}:{settings.broker_port}",
    )
