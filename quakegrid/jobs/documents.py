"""A job as JSON for programs: what `jobs wait --json` prints, and what notifications carry. Pure.

`docs/reference/notification.schema.json` describes it. Fields are added, and never change their meaning.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from quakegrid import errors
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job

EXIT_CODES = {
    JobState.COMPLETE: errors.EXIT_CLEAN,
    JobState.SHARED: errors.EXIT_CLEAN,
    JobState.ABORTED: errors.EXIT_STOPPED,
}


def exit_code(state: JobState) -> int:
    """The exit code that tells how a job has ended; 5 for one that has not."""
    if not state.is_final:
        return errors.EXIT_UNFINISHED
    return EXIT_CODES.get(state, errors.EXIT_FAILED)


def job_document(job: Job) -> dict[str, Any]:
    """All that is known of a job, with its exit code; instants as ISO 8601 in UTC."""
    document = {field.name: _plain(getattr(job, field.name)) for field in dataclasses.fields(job)}
    return document | {"exit_code": exit_code(job.state)}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).isoformat()
    return value.value if isinstance(value, JobState) else value
