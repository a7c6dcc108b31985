"""Commands `db ...`: copies, checks and queries of the job database, through the dbserver that owns it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from quakegrid import errors
from quakegrid.cli import options
from quakegrid.cli.shell.groups import CommandGroup
from quakegrid.cli.views import render, widths
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.database_admin import DatabaseCare
from quakegrid.machine import own_addresses

if TYPE_CHECKING:
    from quakegrid.settings.config import Settings

MB = 1 << 20


@click.group(cls=CommandGroup)
def db() -> None:
    """Back up, check and query the job database."""


def _client() -> DbClient:
    return DbClient(options.cluster_settings())


@db.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    """Copy the database to a new FILE on this machine, while calculations go on.

    `quakegrid db restore FILE` puts it back.
    """
    with closing(_client()) as database:
        stored_bytes = DatabaseCare(database).backup(file.expanduser().absolute())
    render.say(f"{file}: {stored_bytes / MB:.1f} MB")


@db.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
def restore(file: Path) -> None:
    """Put the backup FILE in the place of the database, on the dbserver's node.

    Stop the services first: `quakegrid down`, or on an installed machine `sudo systemctl stop` of the
    broker and the dbserver, and run this as their user. FILE is checked before anything changes. The old
    database is kept beside the new one, under a name with `.before-restore-` and the date. Calculations
    that were made after the backup are not listed any more; their files stay.
    """
    _refuse_elsewhere(options.settings())
    command = [sys.executable, "-P", "-m", "quakegrid.services.dbserver.store.restore"]
    if state_dir := options.state_dir():
        command += ["--state-dir", str(state_dir)]
    child = subprocess.run(
        [*command, "--", str(file.expanduser().absolute())], capture_output=True, text=True, check=False
    )
    if child.returncode:
        kind = errors.UsageError if child.returncode == errors.UsageError.exit_code else errors.QuakeGridError
        raise kind(child.stderr.strip() or f"the restore ended with code {child.returncode}")
    render.say(child.stdout.rstrip())


def _refuse_elsewhere(settings: Settings) -> None:
    """Refuse to make a database that no dbserver would use.

    Raises:
        UsageError: there is none here, and the dbserver's host is another machine.
    """
    host = settings.dbserver_host
    if not settings.database.exists() and not own_addresses.is_own(host):
        raise errors.UsageError(
            f"no database is at {settings.database}, and the dbserver is on {host} ([dbserver] host); "
            "restore the backup there"
        )


@db.command()
@options.output_option
def check(output: str) -> None:
    """Look for damage in the whole database; exit code 1 if there is some."""
    with closing(_client()) as database:
        problems = DatabaseCare(database).check()
    if output == "json":
        render.print_json({"problems": problems})
    for problem in problems if output != "json" else []:
        click.echo(widths.paragraph(problem, 2))
    if problems:
        raise errors.QuakeGridError(
            f"{len(problems)} problems found; stop the cluster and run `quakegrid db restore BACKUP`"
        )
    render.say("no damage found")


@db.command()
def vacuum() -> None:
    """Give room that is no longer used back to the disk; nothing is written meanwhile.

    While it runs it needs up to twice the room of what the database holds: half of it beside the file, half
    in the folder for temporary files (/var/tmp, or $SQLITE_TMPDIR of the dbserver).
    """
    with closing(_client()) as database:
        before_bytes, after_bytes, is_delayed = DatabaseCare(database).vacuum()
    when = "soon, when nobody reads the old pages any more" if is_delayed else "now"
    render.say(f"{before_bytes / MB:.1f} MB before, {after_bytes / MB:.1f} MB {when}")


@db.command()
@options.output_option
def info(output: str) -> None:
    """Show what the database holds and what it takes."""
    with closing(_client()) as database:
        render.print_record(output, DatabaseCare(database).info())


@db.command()
@click.argument("sql", metavar="SQL")
@click.argument("parameters", metavar="[VALUE]...", nargs=-1)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="At most so many rows."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, 60, min_open=True),
    default=10.0,
    show_default=True,
    help="Give up after so many seconds.",
)
@options.output_option
def query(sql: str, parameters: tuple[str, ...], limit: int, timeout_s: float, output: str) -> None:
    """Run one SELECT, or a PRAGMA that informs; VALUEs stand for the ? in it. Nothing can be changed.

    Example: quakegrid db query "SELECT status, count(*) FROM job GROUP BY status"
    """
    with closing(_client()) as database:
        table, is_truncated = DatabaseCare(database).query(sql, parameters, limit=limit, timeout_s=timeout_s)
    rows = [[value.hex() if isinstance(value, bytes) else value for value in row] for row in table.rows]
    if output == "json":
        render.print_json({"columns": table.fields, "rows": rows, "is_truncated": is_truncated})
    elif output == "quiet":
        for row in rows:
            click.echo(render.cell(row[0]))
    else:
        render.print_table(rows, table.fields)
    if is_truncated:
        render.say(f"there are more than {limit} rows; raise --limit")
