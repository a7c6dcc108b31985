"""Upstream's two actions that make a job: one of this engine, and one that was calculated elsewhere."""

from __future__ import annotations

import getpass
import posixpath
from dataclasses import dataclass
from typing import Any

from quakegrid.errors import StateError, UsageError
from quakegrid.services.dbserver.deletions import marks
from quakegrid.services.dbserver.engine.signatures import takes
from quakegrid.services.dbserver.jobs import field_checks
from quakegrid.services.dbserver.jobs import rows as job_rows
from quakegrid.services.dbserver.store.database import JOB_EVENTS, SqlSession

# New jobs get the ids behind the largest one that was ever there, so these must not come to an end.
LARGEST_IMPORTED_ID = 10**9


@dataclass(frozen=True, slots=True)
class CreatedJob:
    """The arguments of upstream's `create_job`."""

    datadir: str
    calculation_mode: str = "to be set"
    description: str = "just created"
    user_name: str | None = None
    hc_id: int | None = None
    host: str | None = None
    workflow_id: int | None = None


@takes(CreatedJob)
def create_job(session: SqlSession, asked: CreatedJob) -> int:
    """Create a job and return its id."""
    job = job_rows.NewJob(
        asked.datadir,
        asked.calculation_mode,
        asked.description,
        asked.user_name or session.user_name or getpass.getuser(),
        asked.hc_id,
        asked.host,
        asked.workflow_id,
    )
    return job_rows.create(session, job)


@dataclass(frozen=True, slots=True)
class ImportedJob:
    """The arguments of upstream's `import_job`."""

    calc_id: int
    calc_mode: str
    description: str
    user_name: str
    status: str
    hc_id: int | None
    datadir: str


@takes(ImportedJob)
def import_job(session: SqlSession, asked: ImportedJob) -> None:
    """Insert a calculation that was made elsewhere, under its own id."""
    field_checks.check_id("calc_id", asked.calc_id)
    if asked.calc_id > LARGEST_IMPORTED_ID:
        raise UsageError(f"calc_id is {asked.calc_id}; imported jobs have ids of 1 to {LARGEST_IMPORTED_ID}")
    if marks.is_marked(session, asked.calc_id):
        raise StateError(f"job {asked.calc_id} is still being deleted; import it again in a minute")
    job: dict[str, Any] = {
        "calculation_mode": asked.calc_mode,
        "description": asked.description,
        "user_name": asked.user_name,
        "hazard_calculation_id": asked.hc_id,
        "is_running": 0,
        "status": job_rows.parse_state(asked.status),
        "ds_calc_dir": posixpath.join(asked.datadir, f"calc_{asked.calc_id}"),
    }
    field_checks.check_job(job)
    job["id"] = asked.calc_id
    session.execute("INSERT INTO job (?S) VALUES (?X)", list(job), list(job.values()))
    session.touched_jobs.add(JOB_EVENTS)


WRITING = (create_job, import_job)
