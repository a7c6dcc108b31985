"""Leases of drivers: jobs fail when nobody renews, and only then."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.engine.database.hold_keeper import HoldKeeper
from quakegrid.jobs.states import JobState
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service

LEASE_S = 1.0


def new_job_id(client: DbClient, state: JobState = JobState.EXECUTING) -> int:
    """A new job in a state."""
    job = client.jobs.create_job(
        data_dir="/tmp", calculation_mode="classical", description="d", user_name="ada"
    )
    if state is not JobState.CREATED:
        client.jobs.transition(job.id, state)
    return job.id


@pytest.mark.parametrize("state", [JobState.CREATED, JobState.SUBMITTED, JobState.EXECUTING])
def test_job_without_renewal_fails_with_the_reason(client: DbClient, state: JobState) -> None:
    """The job fails, and its log says why; a job that nobody held goes on."""
    job_id, free_id = new_job_id(client, state), new_job_id(client)

    assert client.jobs.renew_hold(job_id, "node1/77", LEASE_S) is state

    lines = list(client.logs.tail_log(job_id))  # ends with the job
    assert [line.level for line in lines] == ["ERROR"]
    assert "node1/77) has not renewed its hold for 1 s" in lines[0].message
    job = client.jobs.get_job(job_id)
    assert (job.state, job.is_running, job.stop_time is None) == (JobState.FAILED, False, False)
    assert client.jobs.renew_hold(job_id, "node1/77", LEASE_S) is JobState.FAILED
    assert client.jobs.get_job(free_id).state is JobState.EXECUTING


def test_keeper_holds_a_job_longer_than_its_lease(client: DbClient) -> None:
    """While the driver renews, the job is left alone, although another one fails meanwhile."""
    kept_id, dropped_id = new_job_id(client), new_job_id(client)
    lost: list[int] = []
    keeper = HoldKeeper(
        [kept_id],
        client.jobs.renew_hold,
        lambda job_id, _: lost.append(job_id),
        hold_s=2 * LEASE_S,
        renew_every_s=0.1,
    )
    client.jobs.renew_hold(dropped_id, "node1/77", 3 * LEASE_S)

    list(client.logs.tail_log(dropped_id))

    assert client.jobs.get_job(kept_id).state is JobState.EXECUTING
    keeper.close()
    assert "has not renewed" in next(client.logs.tail_log(kept_id)).message
    assert not lost


def test_restart_gives_every_driver_a_full_lease_time(dbserver_process: Service) -> None:
    """Leases survive kill -9; time in which the dbserver was away does not count."""
    with DbClient(dbserver_process.settings, retry_s=60) as client:
        long_id, short_id = new_job_id(client), new_job_id(client)
        client.jobs.renew_hold(long_id, "node1/77", 3600)
        client.jobs.renew_hold(short_id, "node1/78", 5 * LEASE_S)
        dbserver_process.stop(signal.SIGKILL)
        dbserver_process.start()

        assert client.jobs.renew_hold(short_id, "node1/78", 5 * LEASE_S) is JobState.EXECUTING
        assert "node1/78" in next(client.logs.tail_log(short_id)).message
        assert client.jobs.get_job(long_id).state is JobState.EXECUTING


def test_ended_job_holds_no_lease(client: DbClient) -> None:
    """However a job ends, its lease is gone and nothing happens afterwards."""
    for end in ("finish", "update_job", "delete", "transition"):
        job_id = new_job_id(client)
        client.jobs.renew_hold(job_id, "node1/77", 3600)
        match end:
            case "finish":
                client.call("finish", job_id, "complete")
            case "update_job":
                client.call("update_job", job_id, {"status": "aborted"})
            case "delete":
                client.call("DELETE FROM job WHERE id in (?X)", [job_id])
            case "transition":
                client.jobs.transition(job_id, JobState.COMPLETE)

    assert client.call("SELECT count(*) FROM quakegrid_lease")[0].values == (0,)


def test_renewal_is_refused_with_reason(client: DbClient) -> None:
    """Leases are of one driver, of jobs that exist, and of sensible length."""
    job_id = new_job_id(client)
    client.jobs.renew_hold(job_id, "node1/77", 3600)

    with pytest.raises(errors.StateError, match="run by node1/77, so node2/1 cannot"):
        client.jobs.renew_hold(job_id, "node2/1", 3600)
    with pytest.raises(errors.NotFoundError, match="no job 99"):
        client.jobs.renew_hold(99, "node1/77", 3600)
    for lease_s in (0.0, 0.5, 1e6):
        with pytest.raises(errors.UsageError, match="hold_timeout"):
            client.jobs.renew_hold(job_id, "node1/77", lease_s)


def test_renewals_are_not_written(dbserver: LocalDbServer, client: DbClient) -> None:
    """Only the first renewal costs a commit."""
    job_id = new_job_id(client)
    client.jobs.renew_hold(job_id, "node1/77", 3600)
    wal = Path(f"{dbserver.settings.database}-wal")
    before = wal.stat()

    for _ in range(20):
        client.jobs.renew_hold(job_id, "node1/77", 3600)

    assert (wal.stat().st_size, wal.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
