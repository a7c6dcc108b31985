"""Commands `web ...`, and `token ... --web`: the web pages from anywhere, and scripts that use them."""

from __future__ import annotations

import contextlib
import datetime
import webbrowser
from contextlib import closing
from typing import Any

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.shell.groups import CommandGroup
from quakegrid.cli.views import render
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.web import web_client
from quakegrid.clients.web_tokens import ListedWebToken, WebTokensClient
from quakegrid.transport import credentials

LINK_LIFE = datetime.timedelta(minutes=1)
CA_LIFE = datetime.timedelta(days=3650)
COLUMNS = {
    "short_id": "id",
    "kind": "kind",
    "name": "for",
    "role": "role",
    "label": "label",
    "state": "state",
    "issue_time": "made",
    "use_time": "used",
    "end_time": "ends",
}


@click.group(cls=CommandGroup)
def web() -> None:
    """Open the web pages, and see the certificate that they show."""


@web.command(name="open")
@click.option(
    "--address", default="", metavar="URL", help="Where the web pages are, as in https://master:8800."
)
@click.option("--no-browser", is_flag=True, help="Only print the link.")
def open_pages(address: str, no_browser: bool) -> None:
    """Log in at the web pages without a password: print a link, and open it where there is a browser.

    The link is for one login within a minute. Who opens it acts as you.
    """
    settings = options.cluster_settings()
    with closing(DbClient(settings)) as database:
        token, made = WebTokensClient(database).create("web open", LINK_LIFE, is_single_use=True)
    link = f"{(address or web_client.address_of(settings)).rstrip('/')}/login?token={token}"
    render.say(f"this link logs in {made.name} ({made.role}), once, within a minute:")
    click.echo(link)
    if not no_browser:
        # A machine without a browser has said all there is to say.
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(link)


@web.command()
def ca() -> None:
    """Print the certificate of the cluster's own authority, which the web service's is signed by.

    Programs that use `requests`, such as the plugin of QGIS, take it from the file that REQUESTS_CA_BUNDLE
    names; browsers have a list of their own. Do not let a whole machine trust it: it is limited to no
    names, so whoever has the authkey could be any site there. A service with the site's own certificate
    needs none of this.
    """
    settings = options.client_settings()
    if settings.credential is not None:
        click.echo(settings.credential.proof.ca_pem.decode(), nl=False)
        return
    if settings.keyring is None:
        raise errors.StateError("this user has neither the authkey nor a credential of the cluster")
    now_time = datetime.datetime.now(datetime.UTC)
    authority = credentials.authority_of(settings.keyring.keys)
    click.echo(authority.ca_pem(now_time, now_time + CA_LIFE).decode(), nl=False)


def create_token(label: str, life: datetime.timedelta) -> None:
    """Print a new token for scripts."""
    with closing(DbClient(options.cluster_settings())) as database:
        token, made = WebTokensClient(database).create(label, life)
    render.say(f"token {made.id[:8]} for {made.name} ({made.role}), until {render.cell(made.end_time)}")
    render.say("whoever has it acts as you at the web service: `Authorization: Bearer TOKEN`")
    click.echo(token)


def list_tokens(output: str) -> None:
    """Print our tokens and logins, or those of all for an admin."""
    with closing(DbClient(options.cluster_settings())) as database:
        found = WebTokensClient(database).list_all()
    now_time = datetime.datetime.now(datetime.UTC)
    render.print_listing(output, [_shown(each, now_time) for each in found], COLUMNS)


def revoke_token(token_id: str) -> None:
    """End a token or a login."""
    with closing(DbClient(options.cluster_settings())) as database:
        revoked = WebTokensClient(database).revoke(token_id)
    render.say(f"revoked: {revoked.kind} {revoked.id[:8]} of {revoked.name}")


def _shown(found: ListedWebToken, now_time: datetime.datetime) -> dict[str, Any]:
    return {
        "id": found.id,
        "short_id": found.id[:8],
        "kind": found.kind,
        "name": found.name,
        "role": found.role,
        "label": found.label,
        "state": found.state(now_time),
        "issue_time": found.issue_time,
        "use_time": found.use_time,
        "end_time": found.end_time,
        "revocation_time": found.revocation_time,
    }
