"""The job as JSON, and the schema that describes it."""

from __future__ import annotations

import dataclasses
import datetime
import json
from pathlib import Path

import pytest

from quakegrid.jobs import documents
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.notify import ends

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = json.loads((DOCS / "reference" / "notification.schema.json").read_text())
TIME = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
JOB = Job(
    id=7,
    description="case é",
    user_name="ann",
    calculation_mode="classical",
    hazard_calculation_id=None,
    state=JobState.FAILED,
    is_running=False,
    start_time=TIME,
    stop_time=TIME,
    ds_calc_dir="/data/calc_7",
    pid=1,
    size_mb=0.5,
    host="",
    state_reason="no sites",
)


def test_notification_has_all_fields_of_the_schema_and_no_others() -> None:
    """So a new field of a job is described, too."""
    document = json.loads(ends.document_of(JOB))

    assert sorted(document) == sorted(SCHEMA["properties"]) == sorted(SCHEMA["required"])
    assert document["start_time"] == "2026-01-02T02:04:05+00:00"
    assert (document["event"], document["state"], document["exit_code"]) == ("job_ended", "failed", 1)
    assert set(SCHEMA["properties"]["state"]["enum"]) == {state.value for state in JobState}


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (JobState.COMPLETE, 0),
        (JobState.SHARED, 0),
        (JobState.FAILED, 1),
        (JobState.DELETED, 1),
        (JobState.ABORTED, 4),
        (JobState.EXECUTING, 5),
    ],
)
def test_states_have_exit_codes(state: JobState, code: int) -> None:
    """Those of `run`, `attach` and `jobs wait`."""
    assert documents.job_document(dataclasses.replace(JOB, state=state))["exit_code"] == code
