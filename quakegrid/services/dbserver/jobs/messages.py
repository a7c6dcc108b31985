"""Codec between rows of the job table and messages."""

from __future__ import annotations

import datetime

from quakegrid.api.v1 import jobs_pb2
from quakegrid.errors import UsageError
from quakegrid.jobs.engine_values import RowValue, to_timestamp, well_formed
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.jobs import transitions


def encode_job(row: RowValue) -> jobs_pb2.Job:
    """A row of the job table, read with `columns`, as a message.

    Never fails: a row of an older database may hold any values, and no list may fail for such a row.
    """
    value = dict(zip(row.fields, row.values, strict=True))
    job = jobs_pb2.Job(
        id=value["id"],
        description=encode_text(value["description"]),
        user_name=encode_text(value["user_name"]),
        calculation_mode=encode_text(value["calculation_mode"]),
        hazard_calculation_id=encode_integer(value["hazard_calculation_id"]),
        state=encode_state(value["status"]),
        is_running=bool(value["is_running"]),
        ds_calc_dir=encode_text(value["ds_calc_dir"]),
        pid=encode_integer(value["pid"]) or None,
        size_mb=encode_real(value["size_mb"]),
        host=encode_text(value["host"]),
        relevant=bool(value["relevant"]),
        state_reason=encode_text(value["state_reason"]) or _odd_state(value["status"]),
        resume_count=value["resume_count"],
        replayed_count=value["replayed_count"],
    )
    for name in ("start_time", "stop_time"):
        if isinstance(value[name], datetime.datetime):
            getattr(job, name).CopyFrom(to_timestamp(value[name]))
    return job


def encode_state(status: object) -> jobs_pb2.JobState.ValueType:
    """A state of the database as a number of the protocol."""
    return jobs_pb2.JobState.Value(f"JOB_STATE_{transitions.stored_state(status).name}")


def _odd_state(status: object) -> str:
    is_known = isinstance(status, str) and status in set(JobState)
    return "" if is_known else f"its status in the database is {status!r}, as older engines had it"


def encode_text(value: object) -> str:
    """A value of any kind as text."""
    match value:
        case str():
            return well_formed(value)
        case bytes():
            return value.decode(errors="replace")
        case None:
            return ""
        case _:
            return str(value)


def encode_integer(value: object) -> int | None:
    """An integer; None for any other value."""
    return value if isinstance(value, int) else None


def encode_real(value: object) -> float | None:
    """A number; None for any other value."""
    return value if isinstance(value, int | float) else None


def decode_state(state: jobs_pb2.JobState.ValueType) -> JobState:
    """A number of the protocol as a state.

    Raises:
        UsageError: the number is no state.
    """
    if state not in jobs_pb2.JobState.values() or state == jobs_pb2.JOB_STATE_UNSPECIFIED:
        raise UsageError(f"{state} is no state of a job")
    return JobState(jobs_pb2.JobState.Name(state).removeprefix("JOB_STATE_").lower())
