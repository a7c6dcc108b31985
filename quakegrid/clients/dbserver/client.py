"""Client of the dbserver: jobs, logs, outputs and the engine's calls, as value types and our errors.

One connection, usable from several threads. Calls that change something carry a request id, so they can
be sent again and take effect once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc, logs_pb2, logs_pb2_grpc, outputs_pb2, outputs_pb2_grpc
from quakegrid.clients.connection import Connection
from quakegrid.clients.dbserver.engine_call_streams import CallStreams
from quakegrid.clients.retries import new_request_id
from quakegrid.internal.v1 import engine_calls_pb2, holds_pb2, holds_pb2_grpc
from quakegrid.jobs import engine_values
from quakegrid.jobs.filters import ALL_JOBS, JobFilter, JobOrder, encode_filter
from quakegrid.jobs.row_ids import checked
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job, LogLine, Output
from quakegrid.settings.config import Settings

__all__ = ["DbClient", "Job", "JobFilter", "JobOrder", "JobState", "LogLine", "Output"]

SERVICE = "dbserver"
# Far above what any call takes: a server that hangs is an error, not a reason to wait.
CALL_TIMEOUT_S = 60.0
# A log of ten million lines is deleted in small pieces, so that others can write meanwhile.
DELETION_TIMEOUT_S = 600.0
PAGE_SIZE = 1000
# The dbserver takes at most 2000 lines a batch.
MAX_BATCH_LINES = 1000


class DbClient:
    """A connection to the dbserver.

    Args:
        settings: say where it is and hold the authkey.
        retry_s: how long a call is tried again while the dbserver does not answer; 0: one try.
    Every method raises `PeerUnreachableError` if the dbserver does not answer, and the error that the
    dbserver's own words belong to (`NotFoundError`, `StateError`, `UsageError`) if it refuses.
    """

    def __init__(self, settings: Settings, retry_s: float = 0.0) -> None:
        self.connection = Connection(
            SERVICE, settings.dbserver_address, settings.authkey, timeout_s=CALL_TIMEOUT_S, retry_s=retry_s
        )
        channel = self.connection.channel
        self._jobs = jobs_pb2_grpc.JobsStub(channel)
        self._holds = holds_pb2_grpc.HoldsStub(channel)
        self._logs = logs_pb2_grpc.LogsStub(channel)
        self._outputs = outputs_pb2_grpc.OutputsStub(channel)
        self._calls = CallStreams(channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._calls.close()
        self.connection.close()

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
        return decode_job(self.connection.call(self._jobs.CreateJob, request).job)

    def get_job(self, job_id: int, user_name: str = "") -> Job:
        """A job, or the nth last one (of this user) if the id is negative."""
        request = jobs_pb2.GetJobRequest(job_id=checked(job_id), user_name=user_name)
        return decode_job(self.connection.call(self._jobs.GetJob, request).job)

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
            response = self.connection.call(self._jobs.ListJobs, request)
            jobs.extend(map(decode_job, response.jobs))
            request.page_token = response.next_page_token
            if not response.next_page_token:
                break
        return jobs

    def transition(self, job_id: int, state: JobState, reason: str = "") -> Job:
        """Move a job to another state; no change if it is there. `StateError`: the move is illegal."""
        request = jobs_pb2.TransitionJobRequest(
            job_id=checked(job_id), state=encode_state(state), reason=reason
        )
        return decode_job(self.connection.call(self._jobs.TransitionJob, request).job)

    def update_job(
        self, job_id: int, user_name: str, *, description: str | None = None, relevant: bool | None = None
    ) -> Job:
        """Change what people say of a job; None leaves it. `StateError`: it is not this user's."""
        request = jobs_pb2.UpdateJobRequest(
            job_id=checked(job_id), user_name=user_name, description=description, relevant=relevant
        )
        return decode_job(self.connection.call(self._jobs.UpdateJob, request).job)

    def share_job(self, job_id: int, user_name: str) -> Job:
        """Make a complete job visible to all users."""
        request = jobs_pb2.ShareJobRequest(job_id=checked(job_id), user_name=user_name)
        return decode_job(self.connection.call(self._jobs.ShareJob, request).job)

    def unshare_job(self, job_id: int, user_name: str) -> Job:
        """Take that back."""
        request = jobs_pb2.UnshareJobRequest(job_id=checked(job_id), user_name=user_name)
        return decode_job(self.connection.call(self._jobs.UnshareJob, request).job)

    def renew_lease(self, job_id: int, holder: str, lease_s: float) -> JobState:
        """Keep a job for another `lease_s`; the first call opens the lease. Returns the job's state.

        An answer that gets lost is waited for a third of that time only, so that two more tries are possible.
        """
        request = holds_pb2.RenewHoldRequest(job_id=checked(job_id), holder=holder)
        request.hold_timeout.FromNanoseconds(round(lease_s * 1e9))
        timeout_s = min(max(lease_s / 3, 1.0), CALL_TIMEOUT_S)
        return decode_state(self.connection.call(self._holds.RenewHold, request, timeout_s).state)

    def delete_job(self, job_id: int, user_name: str, *, delete_files: bool) -> list[str]:
        """Delete a job; returns the paths of its datastore files."""
        request = jobs_pb2.DeleteJobRequest(
            job_id=checked(job_id),
            user_name=user_name,
            delete_files=delete_files,
            request_id=new_request_id(),
        )
        return list(self.connection.call(self._jobs.DeleteJob, request, DELETION_TIMEOUT_S).paths)

    def append_log(self, job_id: int, lines: Iterable[LogLine]) -> int:
        """Store lines on the disk of the dbserver, whatever their ids; returns how many."""
        lines = list(lines)
        for start in range(0, len(lines), MAX_BATCH_LINES):
            request = encode_batch(job_id, lines[start : start + MAX_BATCH_LINES])
            self.connection.call(self._append_batch, request)
        return len(lines)

    def stream_log(
        self, batches: Iterator[logs_pb2.AppendLogRequest]
    ) -> Iterator[logs_pb2.AppendLogResponse]:
        """Send batches as they come, and give the answer to each; `log_streams.LogStream` is made of this.

        Not tried again by itself. Ends when `batches` does; they are asked for in another thread.
        """
        return self.connection.stream(self._logs.AppendLog, batches)

    def list_log(self, job_id: int, tail_count: int = 0) -> Iterator[LogLine]:
        """The lines of a job's log, or its last `tail_count` (up to 10000), in order."""
        return self._list_log(job_id, tail_count=tail_count)

    def slice_log(self, job_id: int, start: int = 0, stop: int | None = None) -> Iterator[LogLine]:
        """The lines `start:stop` of a job's log, both >= 0, in order."""
        lines = self._list_log(job_id, skip_count=start)
        return itertools.islice(lines, None if stop is None else max(stop - start, 0))

    def get_log_size(self, job_id: int) -> int:
        """How many lines a job's log has."""
        request = logs_pb2.GetLogSizeRequest(job_id=checked(job_id))
        return self.connection.call(self._logs.GetLogSize, request).line_count

    def get_traceback(self, job_id: int) -> str:
        """The last traceback in a job's log; empty if there is none."""
        request = logs_pb2.GetTracebackRequest(job_id=checked(job_id))
        return self.connection.call(self._logs.GetTraceback, request).traceback

    def _list_log(self, job_id: int, **first: int) -> Iterator[LogLine]:
        token = ""
        while True:
            request = logs_pb2.ListLogRequest(
                job_id=checked(job_id), page_size=PAGE_SIZE, page_token=token, **first
            )
            response = self.connection.call(self._logs.ListLog, request)
            yield from map(_decode_line, response.lines)
            token = response.next_page_token
            if not token:
                return

    def _append_batch(self, request: logs_pb2.AppendLogRequest, timeout: float) -> logs_pb2.AppendLogResponse:
        [response] = self._logs.AppendLog(iter([request]), timeout=timeout)
        return response

    def tail_log(self, job_id: int, after_id: int = 0) -> Iterator[LogLine]:
        """The lines after an id and each new one as it comes, until the job has ended."""
        request = logs_pb2.TailLogRequest(job_id=checked(job_id), after_id=after_id)
        for response in self.connection.follow(lambda: self._logs.TailLog(request)):
            for line in response.lines:
                request.after_id = line.id
                yield _decode_line(line)

    def list_outputs(self, job_id: int) -> list[Output]:
        """The outputs of a job, by id."""
        outputs: list[Output] = []
        token = ""
        while True:
            request = outputs_pb2.ListOutputsRequest(
                job_id=checked(job_id), page_size=PAGE_SIZE, page_token=token
            )
            response = self.connection.call(self._outputs.ListOutputs, request)
            outputs.extend(map(_decode_output, response.outputs))
            token = response.next_page_token
            if not token:
                return outputs

    def get_output(self, output_id: int) -> Output:
        """One output."""
        request = outputs_pb2.GetOutputRequest(output_id=checked(output_id, "output"))
        return _decode_output(self.connection.call(self._outputs.GetOutput, request).output)

    def call(self, action: str, *args: Any, user_name: str = "") -> Any:
        """Run one of upstream's named actions or SQL; rows come as `RowValue` and `TableValue`.

        Raises:
            TypeError: an argument is of no type that engine calls carry.
        """
        request = engine_calls_pb2.CallRequest(
            request_id=new_request_id(), action=action, user_name=user_name
        )
        engine_values.fill_all(request.args, args)
        return engine_values.decode(self.connection.call(self._calls.call, request))


def encode_state(state: JobState) -> jobs_pb2.JobState.ValueType:
    """A state as a number of the protocol."""
    return jobs_pb2.JobState.Value(f"JOB_STATE_{state.name}")


def decode_state(number: jobs_pb2.JobState.ValueType) -> JobState:
    """A number of the protocol as a state."""
    return JobState(jobs_pb2.JobState.Name(number).removeprefix("JOB_STATE_").lower())


def decode_job(job: jobs_pb2.Job) -> Job:
    """A job message as a value."""
    return Job(
        id=job.id,
        description=job.description,
        user_name=job.user_name,
        calculation_mode=job.calculation_mode,
        hazard_calculation_id=job.hazard_calculation_id if job.HasField("hazard_calculation_id") else None,
        state=decode_state(job.state),
        is_running=job.is_running,
        start_time=engine_values.from_timestamp(job.start_time),
        stop_time=engine_values.from_timestamp(job.stop_time) if job.HasField("stop_time") else None,
        ds_calc_dir=job.ds_calc_dir,
        pid=job.pid if job.HasField("pid") else None,
        size_mb=job.size_mb if job.HasField("size_mb") else None,
        host=job.host,
        relevant=job.relevant,
        state_reason=job.state_reason,
    )


def encode_batch(job_id: int, lines: Iterable[LogLine]) -> logs_pb2.AppendLogRequest:
    """Lines to store, whatever their ids, with a new request id."""
    encoded = [
        logs_pb2.LogLine(
            log_time=engine_values.to_timestamp(line.log_time),
            level=line.level,
            process=engine_values.well_formed(line.process),
            message=engine_values.well_formed(line.message),
        )
        for line in lines
    ]
    return logs_pb2.AppendLogRequest(job_id=checked(job_id), request_id=new_request_id(), lines=encoded)


def _decode_line(line: logs_pb2.LogLine) -> LogLine:
    return LogLine(
        engine_values.from_timestamp(line.log_time), line.level, line.process, line.message, line.id
    )


def _decode_output(output: outputs_pb2.Output) -> Output:
    size_mb = output.size_mb if output.HasField("size_mb") else None
    return Output(output.id, output.job_id, output.display_name, output.ds_key, size_mb)
