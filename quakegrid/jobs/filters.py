"""Which jobs a list shows, and in which order."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from quakegrid.api.v1 import jobs_pb2
from quakegrid.jobs.states import JobState


class JobOrder(Enum):
    """What a list of jobs is sorted by; jobs that are equal in this are sorted by their ids."""

    ID = "id"
    START_TIME = "start_time"
    USER_NAME = "user_name"
    CALCULATION_MODE = "calculation_mode"
    STATE = "state"
    DESCRIPTION = "description"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows; what is empty or None lets all pass, `states` all but the deleted ones.

    `description_text` is part of the description, in any case of letters; jobs started at
    `start_min_time` or later and before `start_max_time` (both aware).
    """

    user_name: str = ""
    states: Sequence[JobState] = ()
    calculation_mode: str = ""
    description_text: str = ""
    tag: str = ""
    start_min_time: datetime.datetime | None = None
    start_max_time: datetime.datetime | None = None


ALL_JOBS = JobFilter()


def encode_filter(wanted: JobFilter, order: JobOrder, *, is_ascending: bool) -> jobs_pb2.ListJobsRequest:
    """A request for the first page."""
    request = jobs_pb2.ListJobsRequest(
        user_name=wanted.user_name,
        states=[jobs_pb2.JobState.Value(f"JOB_STATE_{state.name}") for state in wanted.states],
        calculation_mode=wanted.calculation_mode,
        description_text=wanted.description_text,
        tag=wanted.tag,
        order=jobs_pb2.JobOrder.Value(f"JOB_ORDER_{order.name}"),
        is_ascending=is_ascending,
    )
    if wanted.start_min_time is not None:
        request.start_min_time.FromDatetime(wanted.start_min_time)
    if wanted.start_max_time is not None:
        request.start_max_time.FromDatetime(wanted.start_max_time)
    return request
