"""Commands of the engine that would go around the cluster, replaced by ones that go through it.

Upstream's `abort` looks for a local process, `reset` deletes the database file and `dump` copies it while it
is written. Here they work through the cluster, and print upstream's words. The engine's own connection to the
database file is replaced too: only the dbserver opens it.
"""

from __future__ import annotations

import contextlib
import getpass
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openquake.commonlib import logs

from quakegrid import errors
from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.database_admin import DatabaseCare
from quakegrid.engine import this_process
from quakegrid.engine.driver import earlier_jobs
from quakegrid.jobs import terminal_text
from quakegrid.jobs.values import Job

FINAL_STATES = ("complete", "failed", "aborted", "deleted")
NO_FILE = "quakegrid: the database file is the dbserver's; this use of it is not served: "


class ServedDatabase:
    """Stands in for upstream's `dbapi.db`: queries go to the dbserver, the file stays closed here."""

    def __call__(self, templ: str, *args: Any, **options: Any) -> Any:
        """Run a query that reads."""
        if options:
            raise RuntimeError(f"{NO_FILE}{options}")
        return logs.dbcmd(templ, *args)

    @property
    def path(self) -> str:
        """The database file, which lies on the dbserver's node."""
        return str(this_process.settings().database)

    @property
    def conn(self) -> Any:
        """Refuse: a second writer could harm the file."""
        raise RuntimeError(f"{NO_FILE}a connection of its own")


def with_help_of(original: Callable[..., None], command: Callable[..., None]) -> Callable[..., None]:
    """Give a command of ours the help and the arguments that upstream declares for its own."""
    vars(command).update(vars(original))
    command.__annotations__, command.__doc__ = original.__annotations__, original.__doc__
    return command


def abort(job_id: list[int]) -> None:
    """Abort jobs by the broker, wherever they run."""
    with BrokerClient(this_process.settings()) as broker, DbClient(this_process.settings()) as client:
        for number in job_id:
            try:
                job = own_jobs.own_job(client, number)
            except (errors.NotFoundError, errors.UsageError) as exc:
                print(f"There is no job {number}: {exc}")
                continue
            if job.state.value in FINAL_STATES:
                print(f"Job {job.id} is {job.state}")
            elif own_jobs.is_own(client, job) or _confirms(_question(job)):
                try:
                    broker.abort_job(job.id)
                except (errors.NotFoundError, errors.NotAllowedError, errors.StateError) as exc:
                    print(f"Job {job.id} was not aborted: {exc}")
                else:
                    print(f"Job {job.id} aborted")


def own_calc_ids(datadir: str | None = None) -> list[int]:
    """The calculations of this user whose datastores are in a folder; upstream counts -1, -2 among them.

    In a folder that several people use, upstream would count those of all.

    Args:
        datadir: the folder; None for this user's own.
    """
    folder = Path(datadir or logs.get_datadir())
    return earlier_jobs.own_ids(folder, logs.dbcmd("get_calc_ids", getpass.getuser()))


def _question(job: Job) -> str:
    return f"Job {job.id} belongs to {terminal_text.one_line(job.user_name)}. Abort it?"


def _confirms(question: str) -> bool:
    """Ask on the terminal; without one the answer is no."""
    if not sys.stdin.isatty():
        print(f"{question} Not without a terminal to answer; `quakegrid abort --yes` does not ask")
        return False
    return input(f"{question} (y/n) ").strip().lower() == "y"


def save_backup(dbpath: str, archive: str, calc_id: int) -> None:
    """Add a copy of the database, with its complete jobs only, to an archive of `oq dump`."""
    from openquake.baselib.general import zipfiles  # noqa: PLC0415 - after the seams

    with tempfile.TemporaryDirectory() as folder, DbClient(this_process.settings()) as client:
        copy = Path(folder, Path(dbpath).name)
        DatabaseCare(client).backup(copy)
        with contextlib.closing(sqlite3.connect(copy)) as connection, connection:
            connection.execute("DELETE FROM job WHERE status != 'complete'")
            if calc_id:
                connection.execute("DELETE FROM job WHERE id != ?", [calc_id])
        zipfiles([str(copy)], archive, "a", print)


def reset(yes: bool = False) -> None:
    """Delete the calculations of this user, and nobody else's; the database and its server stay."""
    from openquake.engine.utils import confirm  # noqa: PLC0415 - after the seams

    if not (yes or confirm("Do you really want to destroy all your data? (y/n) ")):
        return
    user = getpass.getuser()
    running = logs.dbcmd(
        "SELECT id FROM job WHERE user_name=?x AND status IN ('submitted', 'executing')", user
    )
    if running:
        numbers = " ".join(str(job.id) for job in running)
        sys.exit(f"There are jobs at work: abort them first (oq abort {numbers})")
    rows = logs.dbcmd("SELECT id, ds_calc_dir FROM job WHERE user_name=?x", user)
    for job_id, ds_calc_dir in [(row.id, row.ds_calc_dir) for row in rows]:
        answer = logs.dbcmd("del_calc", job_id, user, False, True)
        if "error" in answer:
            print(answer["error"])
            continue
        for path in (Path(f"{ds_calc_dir}.hdf5"), Path(f"{ds_calc_dir}_tmp.hdf5")):
            if path.exists():
                path.unlink()
                print(f"Removed {path}")
