"""Client of the dbserver's WatchJobs: all events of jobs, also across restarts of the dbserver."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.job_messages import decode_job, decode_state
from quakegrid.jobs import engine_values
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """All jobs but the deleted ones, newest first. It replaces everything that came before."""

    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One change: created (`old_state` is None), moved, or its row deleted (`new_state` is None).

    `job` is the job as it was when the event was sent, None if it was gone by then.
    """

    id: int
    job_id: int
    event_time: datetime.datetime
    old_state: JobState | None
    new_state: JobState | None
    job: Job | None


def watch_jobs(database: DbClient, user_name: str = "") -> Iterator[JobSnapshot | JobEvent]:
    """A snapshot of all jobs (of a user), then each change in order; never ends by itself.

    After a break it goes on with the next event, or, after a very long one, with a new snapshot.
    """
    stub = jobs_pb2_grpc.JobsStub(database.connection.channel)
    request = jobs_pb2.WatchJobsRequest(user_name=user_name)
    parts: list[Job] = []

    def open_stream() -> grpc.CallIterator[jobs_pb2.WatchJobsResponse]:
        parts.clear()
        return stub.WatchJobs(request)

    for response in database.connection.follow(open_stream):
        if response.HasField("event"):
            request.after_event_id = response.event.id
            yield _decode_event(response.event)
        else:
            parts.extend(map(decode_job, response.snapshot.jobs))
            if response.snapshot.is_complete:
                request.after_event_id = response.snapshot.event_id
                yield JobSnapshot(tuple(parts))


def _decode_event(event: jobs_pb2.JobEvent) -> JobEvent:
    return JobEvent(
        id=event.id,
        job_id=event.job_id,
        event_time=engine_values.from_timestamp(event.event_time),
        old_state=decode_state(event.old_state) if event.old_state else None,
        new_state=decode_state(event.new_state) if event.new_state else None,
        job=decode_job(event.job) if event.HasField("job") else None,
    )
