"""`quakegrid jobs wait`, a process of its own, beside a dbserver that ends and comes back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.settings.config import Settings
from tests.support import processes
from tests.support.processes import Service

QUAKEGRID = Path(sys.executable).with_name("quakegrid")
TIMEOUT_S = 120.0


@pytest.fixture
def database(dbserver_process: Service) -> Iterator[DbClient]:
    """A client that waits for the dbserver."""
    with DbClient(dbserver_process.settings, retry_s=TIMEOUT_S) as database:
        yield database


def new_jobs(database: DbClient, count: int) -> list[int]:
    """Jobs that have not ended."""
    made = [
        database.jobs.create_job(data_dir="/t", calculation_mode="c", description=f"d{n}", user_name="ada")
        for n in range(count)
    ]
    return [job.id for job in made]


def end(database: DbClient, job_id: int, state: JobState, reason: str = "") -> None:
    """End a job."""
    if state is not JobState.ABORTED:
        database.jobs.transition(job_id, JobState.EXECUTING)
    database.jobs.transition(job_id, state, reason)


def wait(settings: Settings, *args: object) -> subprocess.Popen[str]:
    """A command that waits."""
    command = [QUAKEGRID, "--state-dir", settings.state_dir, "jobs", "wait", *args]
    return subprocess.Popen(
        list(map(str, command)),
        env=processes.environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_wait_goes_on_after_a_restart_of_the_dbserver(database: DbClient, dbserver_process: Service) -> None:
    """It prints jobs in the order of the command line, and ends with the code of the first that failed."""
    one, two, three = new_jobs(database, 3)
    end(database, three, JobState.COMPLETE)
    process = wait(dbserver_process.settings, three, two, one, "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())

    end(database, one, JobState.ABORTED, "enough")
    dbserver_process.stop(signal.SIGKILL)
    dbserver_process.start()
    end(database, two, JobState.COMPLETE)
    out, err = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == 4, err
    rest = [json.loads(line) for line in out.splitlines()]
    assert [each["id"] for each in [first, *rest]] == [three, two, one]
    assert [each["exit_code"] for each in [first, *rest]] == [0, 0, 4]
    assert rest[1]["state_reason"] == "enough"


def test_first_failure_counts(database: DbClient, dbserver_process: Service) -> None:
    """Of those on the command line; the lines name the reasons."""
    one, two = new_jobs(database, 2)
    end(database, one, JobState.FAILED, "no sites")
    end(database, two, JobState.ABORTED)

    process = wait(dbserver_process.settings, one, two)
    out, err = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == 1, err
    assert out.splitlines() == [f"job {one} failed (d0): no sites", f"job {two} aborted (d1)"]


@pytest.mark.parametrize("timeout_s", ["0", "0.2"])
def test_wait_ends_when_its_time_is_over(
    database: DbClient, dbserver_process: Service, timeout_s: str
) -> None:
    """With a code of its own, and with the jobs behind that have ended."""
    one, two = new_jobs(database, 2)
    end(database, two, JobState.COMPLETE)

    process = wait(dbserver_process.settings, one, two, "--timeout", timeout_s)
    out, err = process.communicate(timeout=TIMEOUT_S)

    assert process.returncode == 5, err
    assert out == f"job {two} complete (d1)\n"
    assert err == f"job {one} has not ended in {timeout_s} s\n"


def test_deleted_job_has_ended(database: DbClient, dbserver_process: Service) -> None:
    """Without success."""
    (one,) = new_jobs(database, 1)
    process = wait(dbserver_process.settings, one)
    other = wait(dbserver_process.settings, 4711)
    _, err = other.communicate(timeout=TIMEOUT_S)

    database.jobs.transition(one, JobState.ABORTED)
    database.jobs.delete_job(one, "ada", delete_files=False)
    process.communicate(timeout=TIMEOUT_S)

    assert process.returncode in {1, 4}  # it may have seen the abort first
    assert (other.returncode, "4711" in err) == (1, True)
