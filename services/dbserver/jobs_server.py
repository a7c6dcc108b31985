"""The Jobs service: decode, call, encode."""

from __future__ import annotations

from pathlib import Path

import grpc

from quakegrid.api.v1 import jobs_pb2 as pb
from quakegrid.api.v1 import jobs_pb2_grpc
from quakegrid.errors import QuakeGridError, StateError, UsageError
from quakegrid.job_states import JobState
from quakegrid.values import RowValue, to_timestamp
from services.dbserver import job_rows, pages
from services.dbserver.database import Readers, Session
from services.dbserver.requests import Requests
from services.dbserver.writer import Writer

JOBS_PAGE = pages.PageSize(default=50, largest=1000)


class JobsServicer(jobs_pb2_grpc.JobsServicer):
    """Answers calls about jobs."""

    def __init__(self, readers: Readers, writer: Writer, requests: Requests) -> None:
        self._readers = readers
        self._writer = writer
        self._requests = requests

    def CreateJob(  # noqa: N802  named in the proto
        self, request: pb.CreateJobRequest, _context: grpc.ServicerContext
    ) -> pb.CreateJobResponse:
        """Create a job, once for each request id."""

        def create(session: Session) -> bytes:
            hazard_id = request.hazard_calculation_id if request.HasField("hazard_calculation_id") else None
            if hazard_id is not None:
                job_rows.get_row(session, hazard_id)
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
        row = job_rows.find_row(self._readers.session(), request.job_id, request.user_name)
        if row is None:
            raise job_rows.missing(request.job_id, request.user_name)
        return pb.GetJobResponse(job=encode_job(row))

    def ListJobs(  # noqa: N802  named in the proto
        self, request: pb.ListJobsRequest, _context: grpc.ServicerContext
    ) -> pb.ListJobsResponse:
        """A page of jobs, newest first."""
        condition = {"user_name": request.user_name} if request.user_name else {}
        states = [decode_state(state) for state in request.states]
        states = states or [state for state in JobState if state is not JobState.DELETED]
        before = pages.parse_token(request.page_token, start=pages.LAST)
        size = JOBS_PAGE.clamp(request.page_size)
        rows = self._readers.session().query(
            "SELECT * FROM job WHERE ?A AND status IN (?X) AND id < ?x ORDER BY id DESC LIMIT ?x",
            condition,
            states,
            before,
            size + 1,
        )
        jobs = [encode_job(row) for row in rows]
        return pb.ListJobsResponse(
            jobs=jobs[:size], next_page_token=str(jobs[size - 1].id) if len(jobs) > size else ""
        )

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

        return self._writer.run(move)

    def DeleteJob(  # noqa: N802  named in the proto
        self, request: pb.DeleteJobRequest, _context: grpc.ServicerContext
    ) -> pb.DeleteJobResponse:
        """Delete a job and, if asked, its files."""

        def delete(session: Session) -> list[str]:
            state = JobState(job_rows.get_row(session, request.job_id)["status"])
            if state in (JobState.SUBMITTED, JobState.EXECUTING):
                raise StateError(
                    f"job {request.job_id} is {state}; abort it first with `quakegrid abort {request.job_id}`"
                )
            return job_rows.delete(session, request.job_id, request.user_name)

        paths = self._writer.run(delete)
        if request.delete_files:
            remove_files(paths)
        return pb.DeleteJobResponse(paths=paths)


def encode_job(row: RowValue) -> pb.Job:
    """A row of the job table as a message."""
    job = pb.Job(
        id=row["id"],
        description=row["description"],
        user_name=row["user_name"],
        calculation_mode=row["calculation_mode"],
        hazard_calculation_id=row["hazard_calculation_id"],
        state=encode_state(row["status"]),
        is_running=bool(row["is_running"]),
        start_time=to_timestamp(row["start_time"]),
        ds_calc_dir=row["ds_calc_dir"],
        pid=row["pid"] or None,
        size_mb=row["size_mb"],
        host=row["host"] or "",
    )
    if row["stop_time"] is not None:
        job.stop_time.CopyFrom(to_timestamp(row["stop_time"]))
    return job


def encode_state(status: str) -> pb.JobState.ValueType:
    """A state of the database as a number of the protocol."""
    return pb.JobState.Value(f"JOB_STATE_{status.upper()}")


def decode_state(state: pb.JobState.ValueType) -> JobState:
    """A number of the protocol as a state.

    Raises:
        UsageError: it is no state.
    """
    if state not in pb.JobState.values() or state == pb.JOB_STATE_UNSPECIFIED:
        raise UsageError(f"{state} is no state of a job")
    return JobState(pb.JobState.Name(state).removeprefix("JOB_STATE_").lower())


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
