"""Follows a job for `quakegrid attach` of a person who has neither the authkey nor a credential.

Such a person reaches the cluster by the agent's socket alone, and a driver is what the agent starts for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from quakegrid import errors
from quakegrid.clients.dbserver import own_jobs
from quakegrid.clients.job_events import JobEvents

if TYPE_CHECKING:
    from quakegrid.engine.driver.process import DriverProcess

VERBOSE = "-v"


def main(argv: Sequence[str], driver: DriverProcess) -> int:
    """Tell the events of a job until its end; the job's exit code. SIGINT aborts the job.

    Args:
        argv: its id, negative for the person's own jobs from the newest; then perhaps `-v`.
        driver: this process.
    Raises:
        QuakeGridError: there is no such job, or it cannot be followed any more.
    """
    database = driver.database.client
    job = own_jobs.own_job(database, int(argv[0]))
    events = JobEvents(driver.settings, database, job, verbose=VERBOSE in argv)
    while True:
        try:
            for event in events.follow():
                if event["event"] == "exit":
                    return int(event["code"])
                driver.events.tell(event, is_of_another=True)
        except KeyboardInterrupt:
            _abort(events, driver)


def _abort(events: JobEvents, driver: DriverProcess) -> None:
    try:
        events.abort()
    except errors.QuakeGridError as exc:
        driver.events.tell({"event": "log", "level": "ERROR", "message": f"not aborted: {exc}"})
