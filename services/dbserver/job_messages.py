"""Codec between rows of the job table and messages."""

from __future__ import annotations

from quakegrid.api.v1 import jobs_pb2 as pb
from quakegrid.errors import UsageError
from quakegrid.job_states import JobState
from quakegrid.values import RowValue, to_timestamp


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
        relevant=bool(row["relevant"]),
        state_reason=row["state_reason"] or "",
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
