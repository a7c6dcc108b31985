"""Codec between messages and values: jobs, their states, lines of their logs, outputs."""

from __future__ import annotations

from collections.abc import Iterable

from quakegrid.api.v1 import jobs_pb2, logs_pb2, outputs_pb2
from quakegrid.clients.retries import new_request_id
from quakegrid.jobs import engine_values
from quakegrid.jobs.row_ids import checked
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job, LogLine, Output


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
        resume_count=job.resume_count,
        replayed_count=job.replayed_count,
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


def decode_line(line: logs_pb2.LogLine) -> LogLine:
    """A line message as a value."""
    return LogLine(
        engine_values.from_timestamp(line.log_time), line.level, line.process, line.message, line.id
    )


def decode_output(output: outputs_pb2.Output) -> Output:
    """An output message as a value."""
    size_mb = output.size_mb if output.HasField("size_mb") else None
    return Output(output.id, output.job_id, output.display_name, output.ds_key, size_mb)
