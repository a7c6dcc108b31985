"""Command `audit`: who did what to which job, node or person, when and from where."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import click

from quakegrid.access.audits import AuditRecord
from quakegrid.cli import options
from quakegrid.cli.views import render, widths
from quakegrid.clients.audit.client import AuditClient, AuditQuery
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.own_jobs import own_job_id

COLUMNS = {
    "time": "when",
    "who": "who",
    "action": "what",
    "subject": "of",
    "result": "outcome",
    "peer": "from",
    "service": "asked",
}
RETRY_S = 600.0


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as scripts see it, and in short as people do (`who`, `subject`, `result`)."""

    id: int
    time: datetime.datetime
    who: str
    role: str
    name: str
    told: str
    action: str
    subject: str
    job_id: int
    owner: str
    node: str
    person: str
    detail: str
    outcome: str
    result: str
    peer: str
    service: str
    count: int


def _local_time(
    _ctx: click.Context, _param: click.Parameter, value: datetime.datetime | None
) -> datetime.datetime | None:
    return None if value is None else value.astimezone()


@click.command(context_settings=options.NEGATIVE_IDS)
@click.option("--user", default="", metavar="NAME", help="Done by or to this person, or to their jobs.")
@click.option("--job", "job_id", type=options.JOB_ID, default=None, metavar="ID", help="Done to this job.")
@click.option("--node", default="", metavar="HOST", help="Done to this node.")
@click.option(
    "--since",
    "since_time",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"]),
    callback=_local_time,
    metavar="DATE",
    help="Not older than this day or time.",
)
@click.option(
    "-n", "--limit", type=click.IntRange(1, 100_000), default=100, show_default=True, help="The last N."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with new records (json: one document a line).")
@options.output_option
def audit(job_id: int | None, limit: int, *, follow: bool, output: str, **given: Any) -> None:
    """Show who did what to which job, node or person.

    Operators and admins see all records. Others see what they did themselves, and what was done to them and
    to their jobs. The name after "for" is the account that a command with the authkey tells; nothing proves
    it. A terminal shows a line or two of each record, a pipe a table.
    """
    with closing(DbClient(options.cluster_settings(), RETRY_S if follow else 0.0)) as database:
        if job_id is not None and job_id < 0:
            job_id = own_job_id(database, job_id)  # a positive one may be of a job that was deleted
        query = AuditQuery(job_id=job_id or 0, **given)
        client = AuditClient(database.connection)
        found = client.newest(query, limit)
        if not follow and (output != "table" or widths.of_output() is None):
            render.print_listing(output, list(map(_shown, found)), COLUMNS)
            return
        _print_stream(found, output)
        if not follow:
            return
        _print_stream(client.follow(query, found[-1].id if found else 0), output)


def _print_stream(records: Iterable[AuditRecord], output: str) -> None:
    for record in records:
        shown = _shown(record)
        if output == "json":
            render.print_json_line(shown)
        elif output == "quiet":
            click.echo(render.cell(shown.time))
        elif widths.of_output() is None:
            click.echo("  ".join(render.cell(getattr(shown, name)) for name in COLUMNS))
        else:
            click.echo(widths.hanging(f"{render.cell(shown.time)}  ", _sentence(shown)))


def _sentence(shown: Shown) -> str:
    """What a person reads in a terminal, which has no room for a table."""
    outcome = "" if shown.result == "OK" else f": {shown.result}"
    words = f"{shown.who}  {shown.action} {shown.subject}".rstrip()
    return f"{words}{outcome}  (from {shown.peer}, {shown.service})"


def _shown(record: AuditRecord) -> Shown:
    about = record.about
    return Shown(
        id=record.id,
        time=datetime.datetime.fromtimestamp(record.time_s, datetime.UTC),
        who=_who(record),
        role=record.role,
        name=record.name,
        told=about.told,
        action=about.action,
        subject=_subject(record),
        job_id=about.job_id,
        owner=record.owner,
        node=about.node,
        person=about.person,
        detail=about.detail,
        outcome=record.outcome,
        result=record.outcome if record.count == 1 else f"{record.outcome} x {record.count}",
        peer=record.peer,
        service=record.service,
        count=record.count,
    )


def _who(record: AuditRecord) -> str:
    """Such as "anna (user)", or "service for anna" of a command that has the authkey."""
    if record.name:
        return f"{record.name} ({record.role})"
    role = record.role or "nobody"
    return f"{role} for {record.about.told}" if record.about.told else role


def _subject(record: AuditRecord) -> str:
    about = record.about
    job = f"job {about.job_id}" if about.job_id else ""
    owner = f"of {record.owner}" if record.owner and record.owner != record.name else ""
    parts = (f"{job} {owner}".strip(), about.node, about.person, about.detail)
    return ", ".join(filter(None, parts))
