"""The Jobs service: decode, call, encode."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc

from quakegrid.api.v1 import jobs_pb2 as pb
from quakegrid.api.v1 import jobs_pb2_grpc
from quakegrid.errors import QuakeGridError
from quakegrid.jobs.states import JobState
from services.dbserver.jobs import events, field_checks, holds, lists
from services.dbserver.jobs import rows as job_rows
from services.dbserver.jobs.events import JobBell
from services.dbserver.jobs.holds import LeaseMonitor
from services.dbserver.jobs.messages import decode_state, encode_job, encode_state
from services.dbserver.logs import deletion
from services.dbserver.rpc import faults
from services.dbserver.store.database import Readers, Session
from services.dbserver.store.idempotence import Requests
from services.dbserver.store.read_limits import UNLIMITED
from services.dbserver.store.writer import Writer

# Each watcher holds one of the server's threads as long as it watches.
MAX_WATCHERS = 32
# Leases that are written at the same time.
NEW_LEASES = 16


class JobsServicer(jobs_pb2_grpc.JobsServicer):
    """Answers calls about jobs. Made in the event loop that serves them."""

    def __init__(
        self, readers: Readers, writer: Writer, requests: Requests, *, bell: JobBell, monitor: LeaseMonitor
    ) -> None:
        self._readers = readers
        self._writer = writer
        self._requests = requests
        self._bell = bell
        self._monitor = monitor
        self._places = threading.Semaphore(MAX_WATCHERS)
        self._lease_slots = asyncio.Semaphore(NEW_LEASES)

    def CreateJob(  # noqa: N802  named in the proto
        self, request: pb.CreateJobRequest, _context: grpc.ServicerContext
    ) -> pb.CreateJobResponse:
        """Create a job, once for each request id."""

        def create(session: Session) -> bytes:
            hazard_id = request.hazard_calculation_id if request.HasField("hazard_calculation_id") else None
            if hazard_id is not None:
                job_rows.get_state(session, hazard_id)
            job = job_rows.NewJob(
                data_dir=request.data_dir,
                calculation_mode=request.calculation_mode,
                description=request.description,
                user_name=request.user_name,
                hazard_calculation_id=hazard_id,
                host=request.host or None,
            )
            row = job_rows.get_row(session, job_rows.create(session, job))
            return pb.CreateJobResponse(job=encode_job(row)).SerializeToString()

        answer = self._requests.run_once(request.request_id, "CreateJob", create)
        return pb.CreateJobResponse.FromString(answer.result)

    def GetJob(  # noqa: N802  named in the proto
        self, request: pb.GetJobRequest, _context: grpc.ServicerContext
    ) -> pb.GetJobResponse:
        """One job."""
        session = self._readers.session()
        row = job_rows.find_row(session, request.job_id, request.user_name)
        if row is None:
            count = job_rows.count(session, request.user_name) if request.job_id < 0 else None
            raise job_rows.missing(request.job_id, request.user_name, count)
        return pb.GetJobResponse(job=encode_job(row))

    def ListJobs(  # noqa: N802  named in the proto
        self, request: pb.ListJobsRequest, _context: grpc.ServicerContext
    ) -> pb.ListJobsResponse:
        """A page of jobs."""
        rows, next_page_token = lists.read_page(self._readers.session(), request)
        return pb.ListJobsResponse(jobs=map(encode_job, rows), next_page_token=next_page_token)

    def TransitionJob(  # noqa: N802  named in the proto
        self, request: pb.TransitionJobRequest, _context: grpc.ServicerContext
    ) -> pb.TransitionJobResponse:
        """Move a job to another state."""
        state = decode_state(request.state)

        def move(session: Session) -> pb.TransitionJobResponse:
            moved = job_rows.transition(session, request.job_id, state, request.reason)
            return pb.TransitionJobResponse(
                job=encode_job(job_rows.get_row(session, request.job_id)), moved=moved
            )

        response = self._writer.run(move)
        if state.is_final:
            self._monitor.drop(request.job_id)
        return response

    def UpdateJob(  # noqa: N802  named in the proto
        self, request: pb.UpdateJobRequest, _context: grpc.ServicerContext
    ) -> pb.UpdateJobResponse:
        """Change what people say of a job."""
        fields = {
            name: getattr(request, name) for name in ("description", "relevant") if request.HasField(name)
        }

        def update(session: Session) -> pb.Job:
            job_rows.check_owner(session, request.job_id, request.user_name)
            if fields:
                job_rows.update(session, request.job_id, fields)
            return encode_job(job_rows.get_row(session, request.job_id))

        return pb.UpdateJobResponse(job=self._writer.run(update))

    def DeleteJob(  # noqa: N802  named in the proto
        self, request: pb.DeleteJobRequest, _context: grpc.ServicerContext
    ) -> pb.DeleteJobResponse:
        """Delete a job and, if asked, its files."""
        session = self._readers.session(limits=UNLIMITED)
        if session.first("SELECT 1 FROM job WHERE id=?x", request.job_id):  # else a repeated request, perhaps
            job_rows.check_idle(session, request.job_id)
            job_rows.check_deletable(session, request.job_id, request.user_name)
            deletion.drop_long_logs(self._writer, session, [request.job_id])

        def delete(session: Session) -> bytes:
            job_rows.check_idle(session, request.job_id)
            paths = job_rows.delete(session, request.job_id, request.user_name)
            return pb.DeleteJobResponse(paths=paths).SerializeToString()

        answer = self._requests.run_once(request.request_id, "DeleteJob", delete)
        response = pb.DeleteJobResponse.FromString(answer.result)
        if request.delete_files:
            remove_files(list(response.paths))
        self._monitor.drop(request.job_id)
        return response

    def ShareJob(  # noqa: N802  named in the proto
        self, request: pb.ShareJobRequest, _context: grpc.ServicerContext
    ) -> pb.ShareJobResponse:
        """Make a complete job visible to all users."""
        job = self._move_own(request.job_id, request.user_name, JobState.SHARED)
        return pb.ShareJobResponse(job=job)

    def UnshareJob(  # noqa: N802  named in the proto
        self, request: pb.UnshareJobRequest, _context: grpc.ServicerContext
    ) -> pb.UnshareJobResponse:
        """Take that back."""
        job = self._move_own(request.job_id, request.user_name, JobState.COMPLETE)
        return pb.UnshareJobResponse(job=job)

    async def RenewLease(  # noqa: N802  named in the proto
        self, request: pb.RenewLeaseRequest, _context: Any
    ) -> pb.RenewLeaseResponse:
        """Keep a driver's lease of a job; writes only if it is new.

        Runs in the event loop and reads two rows by their keys: it never waits for a thread that somebody's
        query holds.
        """
        lease_s = request.lease_timeout.ToNanoseconds() / 1e9
        holds.check_lease_s(lease_s)
        field_checks.check_name("holder", request.holder)
        session = self._readers.session()
        state = job_rows.get_state(session, request.job_id)
        if not (state.is_final or holds.is_held(session, request.job_id, request.holder, lease_s)):
            state = await self._open_lease(request.job_id, request.holder, lease_s)
        if state.is_final:
            self._monitor.drop(request.job_id)
        else:
            self._monitor.extend(request.job_id, lease_s)
        return pb.RenewLeaseResponse(state=encode_state(state))

    async def _open_lease(self, job_id: int, holder: str, lease_s: float) -> JobState:
        async with self._lease_slots:  # the writer's queue has room for so many, so that the loop never waits
            opened = self._writer.submit(lambda session: holds.open_lease(session, job_id, holder, lease_s))
            return await asyncio.wrap_future(opened)

    def WatchJobs(  # noqa: N802  named in the proto
        self, request: pb.WatchJobsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchJobsResponse]:
        """All jobs, then all events."""
        if not self._places.acquire(blocking=False):
            raise faults.TooManyFollowersError(f"{MAX_WATCHERS} others watch jobs; stop one, or list jobs")
        try:
            context.add_callback(self._bell.wake)
            yield from events.watch(self._readers, request, self._bell, context.is_active)
        finally:
            self._places.release()

    def _move_own(self, job_id: int, user_name: str, state: JobState) -> pb.Job:
        def move(session: Session) -> pb.Job:
            job_rows.check_owner(session, job_id, user_name)
            job_rows.check_ended(session, job_id)
            job_rows.transition(session, job_id, state)
            return encode_job(job_rows.get_row(session, job_id))

        return self._writer.run(move)


def remove_files(paths: list[str]) -> None:
    """Remove the files that exist.

    Raises:
        QuakeGridError: one cannot be removed.
    """
    for path in paths:
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as exc:
            raise QuakeGridError(f"Could not remove {path}: {exc}") from exc
