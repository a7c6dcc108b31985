"""Value types of what the dbserver keeps: jobs, lines of their logs, outputs.

Does not depend on the network or on the tables.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from quakegrid.jobs.states import JobState


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the job table; times are aware, in UTC; `size_mb` is in units of 1024 * 1024 bytes.

    `state_reason` says why the job failed or was aborted; it is empty if nobody said why.
    `resume_count` says how often it was started again, and `replayed_count` how many outcomes of tasks its
    journal had then.
    """

    id: int
    description: str
    user_name: str
    calculation_mode: str
    hazard_calculation_id: int | None
    state: JobState
    is_running: bool
    start_time: datetime.datetime
    stop_time: datetime.datetime | None
    ds_calc_dir: str
    pid: int | None
    size_mb: float | None
    host: str
    relevant: bool = True
    state_reason: str = ""
    resume_count: int = 0
    replayed_count: int = 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a job's log; `id` is 0 until it is stored."""

    log_time: datetime.datetime
    level: str
    process: str
    message: str
    id: int = 0


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a job: a dataset of its datastore that can be exported."""

    id: int
    job_id: int
    display_name: str
    ds_key: str
    size_mb: float | None
