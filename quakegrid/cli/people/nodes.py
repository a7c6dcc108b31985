"""Commands `token ...` and `node ...`: machines join with certificates of their own, and are shut out."""

from __future__ import annotations

import datetime
from contextlib import closing
from typing import Any

import click

from quakegrid.cli import options
from quakegrid.cli.people import web
from quakegrid.cli.shell.groups import CommandGroup
from quakegrid.cli.views import render
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.node_access import ListedNode, ListedToken, NodeAccessClient
from quakegrid.settings.config import Settings
from quakegrid.settings.hosts import is_loopback

MOST_HOSTS = 5000
NODE_HOURS, LONGEST_HOURS = 24, 720
WEB_HOURS, LONGEST_WEB_HOURS = 720, 9600
TOKEN_COLUMNS = {
    "short_id": "id",
    "for": "for",
    "state": "state",
    "used": "used by",
    "issue_time": "made",
    "end_time": "ends",
    "issuer": "by",
}
NODE_COLUMNS = {
    "host": "node",
    "short_id": "id",
    "state": "state",
    "issue_time": "joined",
    "renewal_time": "renewed",
    "end_time": "ends",
}


@click.group(cls=CommandGroup)
def token() -> None:
    """Make and revoke tokens: for new nodes, and for scripts.

    With the first a machine joins the cluster, with the others a script uses the web service. On the master,
    as who can read the authkey, or from anywhere: with the credential of an admin for nodes, with any
    credential for scripts.
    """


@token.command()
@click.option("--node", "is_for_nodes", is_flag=True, help="Make a token for nodes.")
@click.option("--web", "is_for_web", is_flag=True, help="Make a token for scripts that use the web service.")
@click.option("--label", default="", metavar="TEXT", help="With --web: what `token list --web` calls it.")
@click.option("--host", default="", metavar="NAME", help="Only for the node of this name (default: for any).")
@click.option(
    "--uses",
    "max_hosts",
    type=click.IntRange(1, MOST_HOSTS),
    default=1,
    show_default=True,
    metavar="N",
    help="How many nodes may join with it, each once.",
)
@click.option(
    "--hours",
    type=click.IntRange(1, LONGEST_WEB_HOURS),
    default=None,
    metavar="N",
    help=f"How long it counts: for nodes at most {LONGEST_HOURS} (default: 24; with --web 720).",
)
@click.option(
    "--address", default="", metavar="HOST", help="How nodes reach the master (default: [dbserver] host)."
)
def create(is_for_nodes: bool, is_for_web: bool, hours: int | None, label: str, **wanted: Any) -> None:
    """Print a token. On a new node: `agentctl join --token TOKEN`, then `agentctl serve`.

    The node gets a certificate of its own. It never has the authkey, and speaks as itself only. With --host
    the token also replaces the certificate of a node of this name.

    With --web the token is for your scripts: `Authorization: Bearer TOKEN`. It does what you may do, and ends
    with the credential that you show now.
    """
    if is_for_nodes == is_for_web:
        raise click.UsageError("Say what the token is for: --node or --web.")
    if is_for_web:
        web.create_token(label, datetime.timedelta(hours=hours or WEB_HOURS))
        return
    if (hours or 0) > LONGEST_HOURS:
        raise click.UsageError(f"A token for nodes counts for at most {LONGEST_HOURS} hours.")
    _create_for_nodes(hours or NODE_HOURS, **wanted)


def _create_for_nodes(hours: int, *, host: str, max_hosts: int, address: str) -> None:
    settings = options.cluster_settings()
    with closing(DbClient(settings)) as database:
        access = NodeAccessClient(database)
        life = datetime.timedelta(hours=hours)
        made, text = access.create_token(_addresses(settings, address), life, host=host, max_hosts=max_hosts)
    whom = made.host or ("one node" if max_hosts == 1 else f"{max_hosts} nodes")
    render.say(f"token {made.id[:8]} for {whom}, until {render.cell(made.end_time)}")
    render.say("whoever has it first can become that node: hand it over safely")
    if is_loopback(address or settings.dbserver_host):
        render.say(
            "it works on this machine only, since the cluster is on loopback; --address names the master"
        )
    click.echo(text)


@token.command(name="list")
@click.option("--web", "is_for_web", is_flag=True, help="Those for scripts, and logins at the web pages.")
@options.output_option
def list_tokens(is_for_web: bool, output: str) -> None:
    """List the tokens of the last month: those for nodes, or yours for scripts; an admin sees all."""
    if is_for_web:
        web.list_tokens(output)
        return
    with closing(DbClient(options.cluster_settings())) as database:
        found = NodeAccessClient(database).list_tokens()
    now_time = datetime.datetime.now(datetime.UTC)
    render.print_listing(output, [_shown_token(each, now_time) for each in found], TOKEN_COLUMNS)


@token.command(name="revoke")
@click.argument("token_id", metavar="ID")
@click.option("--web", "is_for_web", is_flag=True, help="A token for scripts, or a login at the web pages.")
def revoke_token(token_id: str, is_for_web: bool) -> None:
    """Revoke the token whose id begins with ID.

    Nodes that joined with it stay: `quakegrid node revoke` shuts them out.
    """
    if is_for_web:
        web.revoke_token(token_id)
        return
    with closing(DbClient(options.cluster_settings())) as database:
        revoked = NodeAccessClient(database).revoke_token(token_id)
    joined = f"; {', '.join(revoked.hosts)} joined with it before" if revoked.hosts else ""
    render.say(f"revoked: token {revoked.id[:8]}{joined}")


@click.group(cls=CommandGroup)
def node() -> None:
    """See which nodes have certificates in place of the authkey, and shut nodes out.

    On the master, as who can read the authkey, or from anywhere with the credential of an operator; only an
    admin revokes.
    """


@node.command(name="list")
@options.output_option
def list_nodes(output: str) -> None:
    """List the nodes that have had a certificate.

    A node that has the authkey is not listed; `quakegrid status` shows all nodes of the fleet.
    """
    with closing(DbClient(options.cluster_settings())) as database:
        found = NodeAccessClient(database).list_nodes()
    now_time = datetime.datetime.now(datetime.UTC)
    render.print_listing(output, [_shown_node(each, now_time) for each in found], NODE_COLUMNS)


@node.command(name="revoke")
@click.argument("host", metavar="NODE")
def revoke_node(host: str) -> None:
    """Shut a node out.

    The dbserver refuses it at once. The broker and other agents do as soon as they hear of it, within
    moments: the broker takes the node out of the fleet, and what its workers ran runs on other nodes. It
    comes back with a new token only.
    """
    with closing(DbClient(options.cluster_settings())) as database:
        revoked = NodeAccessClient(database).revoke_node(host)
    render.say(f"revoked: {revoked.host} {revoked.id[:8]}" if revoked else f"{host} has no valid certificate")


def _shown_token(found: ListedToken, now_time: datetime.datetime) -> dict[str, Any]:
    return {
        "id": found.id,
        "short_id": found.id[:8],
        "host": found.host,
        "for": found.host or f"any {found.max_hosts}",
        "max_hosts": found.max_hosts,
        "hosts": list(found.hosts),
        "used": ", ".join(found.hosts),
        "state": found.state(now_time),
        "issue_time": found.issue_time,
        "end_time": found.end_time,
        "revocation_time": found.revocation_time,
        "issuer": found.issuer,
    }


def _shown_node(found: ListedNode, now_time: datetime.datetime) -> dict[str, Any]:
    return {
        "host": found.host,
        "id": found.id,
        "short_id": found.id[:8],
        "state": found.state(now_time),
        "issue_time": found.issue_time,
        "renewal_time": found.renewal_time,
        "end_time": found.end_time,
        "revocation_time": found.revocation_time,
        "token_id": found.token_id,
    }


def _addresses(settings: Settings, host: str) -> tuple[str, str]:
    """Where nodes reach dbserver and broker."""
    return (
        f"{host or settings.dbserver_host}:{settings.dbserver_port}",
        f"{host or settings.broker_host}:{settings.broker_port}",
    )
