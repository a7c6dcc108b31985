"""Watching jobs when the events that a watcher missed are gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.services.dbserver.server import DbServer
from quakegrid.settings.config import Settings
from tests.support.dbservers import serving

FORGOTTEN = 7


@pytest.fixture
def server(settings: Settings) -> Iterator[DbServer]:
    """A dbserver."""
    with serving(settings) as server:
        yield server


@pytest.mark.parametrize(("after_id", "kind"), [(6, "snapshot"), (7, "event"), (9, "event"), (10, "event")])
def test_watcher_that_was_away_too_long_starts_again(
    server: DbServer, settings: Settings, after_id: int, kind: str
) -> None:
    """It gets all jobs if an event that it has not seen is forgotten, else the events that follow."""
    with DbClient(settings) as client:
        for _ in range(10):
            client.jobs.create_job(data_dir="/d", calculation_mode="c", description="d", user_name="ada")
        server._writer.run(
            lambda session: session.execute("DELETE FROM quakegrid_job_event WHERE id <= ?x", FORGOTTEN)
        )
        if after_id == 10:
            client.jobs.create_job(data_dir="/d", calculation_mode="c", description="d", user_name="ada")

        watch = jobs_pb2_grpc.JobsStub(client.connection.channel).WatchJobs(
            jobs_pb2.WatchJobsRequest(after_event_id=after_id)
        )
        first = next(watch)
        watch.cancel()

    assert first.WhichOneof("kind") == kind
    if kind == "snapshot":
        assert [job.id for job in first.snapshot.jobs] == list(range(10, 0, -1))
    else:
        assert first.event.id == after_id + 1
