"""`attach` and `jobs wait` from a machine that has a credential and nothing else."""

from __future__ import annotations

import datetime
import json
import threading

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.settings.config import Settings
from tests.integration.people.test_people_commands import (
    Quakegrid,
    credential_of,
    make_job,
    master,
    quakegrid,
    settings,
)

__all__ = ["master", "quakegrid", "settings"]
LINES = [
    "first words",
    "event_based  50% [4 submitted, 4 queued]",
    *(f"words {number}" for number in range(12)),
    "classical 100% [3 submitted, 0 queued]",
]


def begin(settings: Settings, user_name: str) -> int:
    """A job that executes, with a log."""
    job_id = make_job(settings, user_name)
    now = datetime.datetime.now(datetime.UTC)
    with DbClient(settings) as database:
        database.jobs.transition(job_id, JobState.EXECUTING)
        database.logs.append_log(job_id, [LogLine(now, "INFO", "p/1", text) for text in LINES])
    return job_id


def end(settings: Settings, job_id: int, state: JobState) -> None:
    """The end of a job, with some last words."""
    now = datetime.datetime.now(datetime.UTC)
    with DbClient(settings) as database:
        database.logs.append_log(job_id, [LogLine(now, "WARNING", "p/1", "the end is near")])
        database.jobs.transition(job_id, state, "told so")


def test_person_attaches_from_elsewhere(settings: Settings, master: Quakegrid, quakegrid: Quakegrid) -> None:
    """Last lines, how far the operations are, what comes, and the exit code."""
    job_id = begin(settings, "cleo")
    quakegrid("login", str(credential_of(master, "cleo")))
    ending = threading.Thread(target=end, args=(settings, job_id, JobState.COMPLETE))
    ending.start()

    out, err, code = quakegrid("attach", "-1")
    ending.join()

    assert (code, out.splitlines()[0].startswith(f"job {job_id} complete in")) == (0, True)
    assert "event_based: 2 of 8 tasks done" in err
    assert "classical: 3 of 3 tasks done" in err
    assert "INFO words 11" in err
    assert "first words" not in err
    assert "WARNING the end is near" in err


def test_person_attaches_to_what_has_ended(
    settings: Settings, master: Quakegrid, quakegrid: Quakegrid
) -> None:
    """Somebody else's, too; with -v the whole log."""
    job_id = begin(settings, "dora")
    end(settings, job_id, JobState.FAILED)
    quakegrid("login", str(credential_of(master, "cleo")))

    out, err, code = quakegrid("attach", "-v", str(job_id), "--output", "json")

    assert (code, json.loads(out)["exit_code"]) == (1, 1)
    assert json.loads(out)["jobs"][0]["error"] == "told so"
    assert "INFO first words" in err


def test_person_waits_from_elsewhere(settings: Settings, master: Quakegrid, quakegrid: Quakegrid) -> None:
    """With the codes of the jobs."""
    first, second = begin(settings, "cleo"), begin(settings, "cleo")
    end(settings, first, JobState.ABORTED)
    end(settings, second, JobState.COMPLETE)
    quakegrid("login", str(credential_of(master, "cleo")))

    out, _err, code = quakegrid("jobs", "wait", "-1", "-2")

    assert code == 4
    assert out.splitlines() == [
        f"job {second} complete (a job)",
        f"job {first} aborted (a job): told so",
    ]
