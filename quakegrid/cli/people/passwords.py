"""The command `user password`, and what asks for a password: the terminal, or standard input."""

from __future__ import annotations

import sys
from contextlib import closing

import click

from quakegrid import errors
from quakegrid.access.principals import PrincipalRole
from quakegrid.cli import options
from quakegrid.cli.views import render
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--none", "is_none", is_flag=True, help="Take the password away; credentials and tokens stay.")
def password(name: str, is_none: bool) -> None:
    """Set the password with which a person logs in at the web pages.

    It is asked for twice, or read from standard input: its first line. All logins of the person end. With a
    credential, people set their own; an admin sets that of everybody.
    """
    set_password(name, "" if is_none else ask())


def set_password(name: str, text: str, role: PrincipalRole | None = None) -> None:
    """Set a password, and say so.

    Args:
        name: of the person.
        text: the password; empty for none.
        role: of somebody new; None: as before.
    """
    with closing(DbClient(options.cluster_settings())) as database:
        found = PeopleClient(database).set_password(name, text, role)
    if text:
        render.say(f"{name} ({found}) logs in at the web pages with the new password; earlier logins ended")
    else:
        render.say(f"{name} has no password any more; earlier logins ended")


def ask() -> str:
    """A password, from the terminal or from standard input.

    Raises:
        UsageError: there is none.
    """
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True))
    text = sys.stdin.readline().rstrip("\r\n")
    if not text:
        raise errors.UsageError("no password came: type one at a terminal, or send it to standard input")
    return text
