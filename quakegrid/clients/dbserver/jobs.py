"""Calls about jobs: to make, find, move, hold and delete them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver import job_messages
from quakegrid.clients.retries import new_request_id
from quakegrid.internal.v1 import holds_pb2, holds_pb2_grpc
from quakegrid.jobs.filters import ALL_JOBS, JobFilter, JobOrder, encode_filter
from quakegrid.jobs.row_ids import checked
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job

# A log of ten million lines is deleted in small pieces, so that others can write meanwhile.
DELETION_TIMEOUT_S = 600.0
# The shortest and the longest wait for the answer to a renewal.
SHORTEST_HOLD_TIMEOUT_S = 1.0
LONGEST_HOLD_TIMEOUT_S = 60.0
PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class DeletedFiles:
    """The datastore files of a deleted job.

    Args:
        gone: paths of those that are gone.
        left: paths of those that the dbserver may not remove; the web service of the master does so.
    """

    gone: Sequence[str]
    left: Sequence[str]


class JobsClient:
    """Jobs, with the errors of a `Connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = jobs_pb2_grpc.JobsStub(connection.channel)
        self._holds = holds_pb2_grpc.HoldsStub(connection.channel)

    def create_job(
        self,
        *,
        data_dir: str,
        calculation_mode: str,
        description: str,
        user_name: str,
        hazard_calculation_id: int | None = None,
        host: str = "",
    ) -> Job:
        """Create a job; its datastore will be `<data_dir>/calc_<id>.hdf5`."""
        request = jobs_pb2.CreateJobRequest(
            request_id=new_request_id(),
            calculation_mode=calculation_mode,
            description=description,
            user_name=user_name,
            hazard_calculation_id=None if hazard_calculation_id is None else checked(hazard_calculation_id),
            data_dir=data_dir,
            host=host,
        )
        return job_messages.decode_job(self._connection.call(self._stub.CreateJob, request).job)

    def get_job(self, job_id: int, user_name: str = "") -> Job:
        """A job, or the nth last one (of this user) if the id is negative."""
        request = jobs_pb2.GetJobRequest(job_id=checked(job_id), user_name=user_name)
        return job_messages.decode_job(self._connection.call(self._stub.GetJob, request).job)

    def list_jobs(
        self,
        limit: int = 50,
        wanted: JobFilter = ALL_JOBS,
        order: JobOrder = JobOrder.ID,
        *,
        is_ascending: bool = False,
    ) -> list[Job]:
        """The first jobs in an order, at most `limit`; without one, the newest."""
        request = encode_filter(wanted, order, is_ascending=is_ascending)
        jobs: list[Job] = []
        while len(jobs) < limit:
            request.page_size = min(limit - len(jobs), PAGE_SIZE)
            response = self._connection.call(self._stub.ListJobs, request)
            jobs.extend(map(job_messages.decode_job, response.jobs))
            request.page_token = response.next_page_token
            if not response.next_page_token:
                break
        return jobs

    def transition(self, job_id: int, state: JobState, reason: str = "") -> Job:
        """Move a job to another state, unless it is there already. `StateError`: the move is illegal."""
        request = jobs_pb2.TransitionJobRequest(
            job_id=checked(job_id), state=job_messages.encode_state(state), reason=reason
        )
        return job_messages.decode_job(self._connection.call(self._stub.TransitionJob, request).job)

    def reopen(self, job_id: int, replayed_count: int = 0) -> Job:
        """Let a job that failed or was aborted run again. `StateError`: it is in another state.

        Args:
            job_id: of the job.
            replayed_count: tasks whose outcomes are taken from its journal.
        """
        request = jobs_pb2.ReopenJobRequest(job_id=checked(job_id), replayed_count=replayed_count)
        return job_messages.decode_job(self._connection.call(self._stub.ReopenJob, request).job)

    def update_job(
        self, job_id: int, user_name: str, *, description: str | None = None, relevant: bool | None = None
    ) -> Job:
        """Change what people say of a job; None changes nothing. `StateError`: another user owns the job."""
        request = jobs_pb2.UpdateJobRequest(
            job_id=checked(job_id), user_name=user_name, description=description, relevant=relevant
        )
        return job_messages.decode_job(self._connection.call(self._stub.UpdateJob, request).job)

    def share_job(self, job_id: int, user_name: str) -> Job:
        """Make a complete job visible to all users."""
        request = jobs_pb2.ShareJobRequest(job_id=checked(job_id), user_name=user_name)
        return job_messages.decode_job(self._connection.call(self._stub.ShareJob, request).job)

    def unshare_job(self, job_id: int, user_name: str) -> Job:
        """Undo `share_job`."""
        request = jobs_pb2.UnshareJobRequest(job_id=checked(job_id), user_name=user_name)
        return job_messages.decode_job(self._connection.call(self._stub.UnshareJob, request).job)

    def renew_hold(self, job_id: int, holder: str, hold_s: float) -> JobState:
        """Keep a job for another `hold_s`; the first call opens the hold. Returns the job's state.

        The wait for an answer is a third of that time, so that two more tries are possible if it gets lost.
        """
        request = holds_pb2.RenewHoldRequest(job_id=checked(job_id), holder=holder)
        request.hold_timeout.FromNanoseconds(round(hold_s * 1e9))
        timeout_s = min(max(hold_s / 3, SHORTEST_HOLD_TIMEOUT_S), LONGEST_HOLD_TIMEOUT_S)
        return job_messages.decode_state(
            self._connection.call(self._holds.RenewHold, request, timeout_s).state
        )

    def delete_job(self, job_id: int, user_name: str, *, delete_files: bool) -> list[str]:
        """Delete a job; returns the paths of its datastore files."""
        return list(self._delete(job_id, user_name, delete_files=delete_files).paths)

    def delete_job_and_files(self, job_id: int, user_name: str) -> DeletedFiles:
        """Delete a job with its datastore files; what became of them."""
        answer = self._delete(job_id, user_name, delete_files=True)
        left = list(answer.left_paths)
        return DeletedFiles([path for path in answer.paths if path not in left], left)

    def _delete(self, job_id: int, user_name: str, *, delete_files: bool) -> jobs_pb2.DeleteJobResponse:
        request = jobs_pb2.DeleteJobRequest(
            job_id=checked(job_id),
            user_name=user_name,
            delete_files=delete_files,
            request_id=new_request_id(),
        )
        return self._connection.call(self._stub.DeleteJob, request, DELETION_TIMEOUT_S)
