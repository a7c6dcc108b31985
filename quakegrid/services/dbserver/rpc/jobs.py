"""The Jobs service: decode, call, encode."""

from __future__ import annotations

import contextlib
from typing import Any

import grpc

from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.deletions import files
from quakegrid.services.dbserver.deletions.reaper import Reaper
from quakegrid.services.dbserver.jobs import lists
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.jobs.holds import HoldMonitor
from quakegrid.services.dbserver.jobs.messages import decode_state, encode_job
from quakegrid.services.dbserver.jobs.resumptions import reopening
from quakegrid.services.dbserver.jobs.watches import JobWatches
from quakegrid.services.dbserver.rpc import call_limits
from quakegrid.services.dbserver.store.database import DoomedFile, Readers, SqlSession
from quakegrid.services.dbserver.store.idempotence import Requests
from quakegrid.services.dbserver.store.writer import Writer
from quakegrid.transport import callers


class JobsServicer(jobs_pb2_grpc.JobsServicer):
    """Answers calls about jobs."""

    def __init__(
        self,
        readers: Readers,
        writer: Writer,
        requests: Requests,
        reaper: Reaper,
        *,
        watches: JobWatches,
        monitor: HoldMonitor,
    ) -> None:
        self._readers = readers
        self._writer = writer
        self._requests = requests
        self._reaper = reaper
        self._watches = watches
        self._monitor = monitor

    def CreateJob(  # noqa: N802  named in the proto
        self, request: jobs_pb2.CreateJobRequest, _context: grpc.ServicerContext
    ) -> jobs_pb2.CreateJobResponse:
        """Create a job, once for each request id."""
        owner = callers.current().asker(request.user_name)

        def create(session: SqlSession) -> bytes:
            hazard_id = request.hazard_calculation_id if request.HasField("hazard_calculation_id") else None
            if hazard_id is not None:
                job_rows.get_state(session, hazard_id)
            job = job_rows.NewJob(
                data_dir=request.data_dir,
                calculation_mode=request.calculation_mode,
                description=request.description,
                user_name=owner,
                hazard_calculation_id=hazard_id,
                host=request.host or None,
            )
            row = job_rows.get_row(session, job_rows.create(session, job))
            return jobs_pb2.CreateJobResponse(job=encode_job(row)).SerializeToString()

        answer = self._requests.run_once(request.request_id, "CreateJob", create)
        return jobs_pb2.CreateJobResponse.FromString(answer.result)

    def GetJob(  # noqa: N802  named in the proto
        self, request: jobs_pb2.GetJobRequest, context: grpc.ServicerContext
    ) -> jobs_pb2.GetJobResponse:
        """One job."""
        session = self._readers.session(limits=call_limits.of_call(context))
        whose, is_negative = request.user_name, request.job_id < 0
        if is_negative and not whose:
            whose = callers.current().person
        row = job_rows.find_row(session, request.job_id, whose)
        if row is None:
            count = job_rows.count(session, whose) if is_negative else None
            raise job_rows.missing(request.job_id, whose, count)
        return jobs_pb2.GetJobResponse(job=encode_job(row))

    def ListJobs(  # noqa: N802  named in the proto
        self, request: jobs_pb2.ListJobsRequest, context: grpc.ServicerContext
    ) -> jobs_pb2.ListJobsResponse:
        """A page of jobs."""
        rows, next_page_token = lists.read_page(
            self._readers.session(limits=call_limits.of_call(context)), request
        )
        return jobs_pb2.ListJobsResponse(jobs=map(encode_job, rows), next_page_token=next_page_token)

    def TransitionJob(  # noqa: N802  named in the proto
        self, request: jobs_pb2.TransitionJobRequest, _context: grpc.ServicerContext
    ) -> jobs_pb2.TransitionJobResponse:
        """Move a job to another state."""
        state = decode_state(request.state)

        def move(session: SqlSession) -> jobs_pb2.TransitionJobResponse:
            moved = job_rows.transition(session, request.job_id, state, request.reason)
            return jobs_pb2.TransitionJobResponse(
                job=encode_job(job_rows.get_row(session, request.job_id)), moved=moved
            )

        response = self._writer.run(move)
        if state.is_final:
            self._monitor.drop(request.job_id)
        return response

    def ReopenJob(  # noqa: N802  named in the proto
        self, request: jobs_pb2.ReopenJobRequest, _context: grpc.ServicerContext
    ) -> jobs_pb2.ReopenJobResponse:
        """Let a job run again."""

        def reopen(session: SqlSession) -> jobs_pb2.Job:
            reopening.reopen(session, request.job_id, request.replayed_count)
            return encode_job(job_rows.get_row(session, request.job_id))

        return jobs_pb2.ReopenJobResponse(job=self._writer.run(reopen))

    def UpdateJob(  # noqa: N802  named in the proto
        self, request: jobs_pb2.UpdateJobRequest, _context: grpc.ServicerContext
    ) -> jobs_pb2.UpdateJobResponse:
        """Change what people say of a job."""
        fields = {
            name: getattr(request, name) for name in ("description", "relevant") if request.HasField(name)
        }

        asker = callers.asking_owner(request.user_name)

        def update(session: SqlSession) -> jobs_pb2.Job:
            job_rows.check_owner(session, request.job_id, asker)
            if fields:
                job_rows.update(session, request.job_id, fields)
            return encode_job(job_rows.get_row(session, request.job_id))

        return jobs_pb2.UpdateJobResponse(job=self._writer.run(update))

    def DeleteJob(  # noqa: N802  named in the proto
        self, request: jobs_pb2.DeleteJobRequest, _context: grpc.ServicerContext
    ) -> jobs_pb2.DeleteJobResponse:
        """Delete a job and, if asked, its files."""
        asker = callers.asking_owner(request.user_name)
        doomed: list[DoomedFile] = []

        def delete(session: SqlSession) -> bytes:
            job_rows.check_idle(session, request.job_id)
            owner = str(job_rows.get_row(session, request.job_id)["user_name"])
            paths = job_rows.delete(session, request.job_id, asker)
            doomed[:] = [(path, owner) for path in paths]
            return jobs_pb2.DeleteJobResponse(paths=paths).SerializeToString()

        answer = self._requests.run_once(request.request_id, "DeleteJob", delete)
        response = jobs_pb2.DeleteJobResponse.FromString(answer.result)
        if request.delete_files:
            response.left_paths.extend(files.remove(doomed, self._writer))
        self._monitor.drop(request.job_id)
        self._reaper.wait_until_gone([request.job_id])
        return response

    def ShareJob(  # noqa: N802  named in the proto
        self, request: jobs_pb2.ShareJobRequest, _context: grpc.ServicerContext
    ) -> jobs_pb2.ShareJobResponse:
        """Make a complete job visible to all users."""
        job = self._move_own(request.job_id, request.user_name, JobState.SHARED)
        return jobs_pb2.ShareJobResponse(job=job)

    def UnshareJob(  # noqa: N802  named in the proto
        self, request: jobs_pb2.UnshareJobRequest, _context: grpc.ServicerContext
    ) -> jobs_pb2.UnshareJobResponse:
        """Undo `ShareJob`."""
        job = self._move_own(request.job_id, request.user_name, JobState.COMPLETE)
        return jobs_pb2.UnshareJobResponse(job=job)

    async def WatchJobs(  # type: ignore[override]  # noqa: N802  named in the proto
        self, request: jobs_pb2.WatchJobsRequest, context: Any
    ) -> None:
        """All jobs, then all events."""
        async with contextlib.aclosing(self._watches.watch(request)) as messages:
            async for message in messages:
                await context.write(message)

    def _move_own(self, job_id: int, user_name: str, state: JobState) -> jobs_pb2.Job:
        asker = callers.asking_owner(user_name)

        def move(session: SqlSession) -> jobs_pb2.Job:
            job_rows.check_owner(session, job_id, asker)
            job_rows.check_ended(session, job_id)
            job_rows.transition(session, job_id, state)
            return encode_job(job_rows.get_row(session, job_id))

        return self._writer.run(move)
