"""The jobs of the database, followed for all pages at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Callable
from typing import Any

import grpc

from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc
from quakegrid.clients.dbserver import job_messages
from quakegrid.jobs.values import Job
from quakegrid.services.web.live.following import FollowedFeed
from quakegrid.services.web.live.frames import Frames

# Newest first; pages show these, and ask for older ones.
SHOWN_JOBS = 200


def as_json(job: Job) -> dict[str, Any]:
    """A job as pages get it; times are seconds since 1970."""
    return {
        "id": job.id,
        "description": job.description,
        "user_name": job.user_name,
        "calculation_mode": job.calculation_mode,
        "hazard_calculation_id": job.hazard_calculation_id,
        "state": job.state.value,
        "is_running": job.is_running,
        "start_s": job.start_time.timestamp(),
        "stop_s": job.stop_time.timestamp() if job.stop_time else None,
        "size_mb": job.size_mb,
        "host": job.host,
        "state_reason": job.state_reason,
    }


class JobFeed(FollowedFeed):
    """Changes of jobs; the newest jobs are kept.

    Args:
        channel: gives the connection to the dbserver.
    """

    def __init__(self, channel: Callable[[], grpc.aio.Channel]) -> None:
        super().__init__("jobs")
        self._channel = channel
        self.frames = Frames(self, "jobs", self.snapshot)
        self._jobs: dict[int, dict[str, Any]] = {}
        self._is_filling = False

    def snapshot(self) -> str:
        """The newest jobs, newest first, as JSON."""
        newest = sorted(self._jobs, reverse=True)[:SHOWN_JOBS]
        jobs = [self._jobs[job_id] for job_id in newest]
        return json.dumps({"jobs": jobs, "is_connected": self.is_connected})

    def _open(self) -> AsyncIterable[jobs_pb2.WatchJobsResponse]:
        return jobs_pb2_grpc.JobsStub(self._channel()).WatchJobs(jobs_pb2.WatchJobsRequest())

    def _lose(self, failure: grpc.RpcError | None) -> None:
        self._is_filling = False
        super()._lose(failure)

    def _take(self, response: jobs_pb2.WatchJobsResponse) -> None:
        if response.WhichOneof("kind") == "snapshot":
            self._take_snapshot(response.snapshot)
            return
        event = response.event
        if event.HasField("job") and event.new_state != jobs_pb2.JOB_STATE_DELETED:
            job = self._jobs[event.job_id] = as_json(job_messages.decode_job(event.job))
            self._forget_oldest()
            self.tell("job", json.dumps(job))
        else:
            self._jobs.pop(event.job_id, None)
            self.tell("gone", json.dumps({"id": event.job_id}))

    def _take_snapshot(self, part: jobs_pb2.JobSnapshot) -> None:
        """Take a part of what there is; the first one makes all void that we knew."""
        if not self._is_filling:
            self._jobs.clear()
        self._is_filling = not part.is_complete
        for job in part.jobs:
            if len(self._jobs) < 2 * SHOWN_JOBS:  # newest first
                self._jobs[job.id] = as_json(job_messages.decode_job(job))
        if part.is_complete:
            self.is_connected = True
            self.tell("anew", "{}")

    def _forget_oldest(self) -> None:
        if len(self._jobs) > 2 * SHOWN_JOBS:
            for job_id in sorted(self._jobs)[: len(self._jobs) - SHOWN_JOBS]:
                del self._jobs[job_id]
