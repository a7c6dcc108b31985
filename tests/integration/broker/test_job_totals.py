"""The broker's totals of jobs follow a real dbserver, also over its restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from quakegrid.clients.broker import BrokerClient
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.services.broker.status.job_totals import JobTotals, JobWatch
from quakegrid.settings.config import Settings
from tests.support.calls import loops
from tests.support.nodes import wait_until
from tests.support.processes import Service

DEADLINE_S = 60.0


def new_job_id(settings: Settings) -> int:
    """The id of a new job."""
    with DbClient(settings) as client:
        return client.jobs.create_job(
            data_dir="/d", calculation_mode="c", description="d", user_name="ada"
        ).id


def move(settings: Settings, job_id: int, *states: JobState) -> None:
    """Move a job through these states."""
    with DbClient(settings) as client:
        for state in states:
            client.jobs.transition(job_id, state)


async def wait_for(totals: JobTotals, condition: Callable[[JobTotals], bool]) -> None:
    """Return when it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition(totals):  # noqa: ASYNC110  it changes in this loop
            await asyncio.sleep(0.01)


def test_totals_lose_no_end_while_the_dbserver_restarts(
    settings: Settings, dbserver_process: Service
) -> None:
    """Jobs of before count by state only; an end that nobody could tell of at once is told later."""
    old, first, second = (new_job_id(settings) for _ in range(3))
    move(settings, old, JobState.SUBMITTED, JobState.EXECUTING, JobState.FAILED)

    async def follow() -> None:
        watch = JobWatch(settings)
        watch.start()
        totals = watch.totals
        await wait_for(totals, lambda told: told.is_heard)
        assert (totals.states[JobState.FAILED], totals.ended[JobState.FAILED].count) == (1, 0)
        await asyncio.to_thread(
            move, settings, first, JobState.SUBMITTED, JobState.EXECUTING, JobState.COMPLETE
        )
        await wait_for(totals, lambda told: told.ended[JobState.COMPLETE].count == 1)
        await asyncio.to_thread(dbserver_process.stop)
        await wait_for(totals, lambda told: not told.is_heard)
        await asyncio.to_thread(dbserver_process.start)
        await asyncio.to_thread(move, settings, second, JobState.FAILED)
        await wait_for(totals, lambda told: told.ended[JobState.FAILED].count == 1)
        assert dict(totals.counts()) == dict.fromkeys(dict(totals.counts()), 0) | {"failed": 2, "complete": 1}
        await watch.close()

    loops.run(follow())


@pytest.mark.parametrize("text", ["quakegrid_dbserver_up 1.0", 'quakegrid_jobs{state="created"} 1.0'])
def test_broker_serves_the_totals(settings: Settings, dbserver_process: Service, text: str) -> None:
    """As the command line and Prometheus get them."""
    new_job_id(settings)
    broker = Service(settings, "broker")
    try:
        broker.start()
        client = BrokerClient(settings)

        wait_until(lambda: text in client.metrics().splitlines())
        client.close()
    finally:
        broker.close()
