"""Outputs of jobs in the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quakegrid.services.dbserver.jobs import field_checks
from quakegrid.services.dbserver.store.database import SqlSession


def register(
    session: SqlSession, job_id: int, outputs: Sequence[Sequence[Any]], store_size_mb: float
) -> None:
    """Add outputs to a job, each a key, a display name and a size in MB, and set its datastore's size in MB.

    Raises:
        UsageError: a value does not fit its column.
    """
    field_checks.check_job({"size_mb": store_size_mb})
    for output in outputs:
        field_checks.check_output(*output)
    session.execute("UPDATE job SET size_mb=?x WHERE id=?x", store_size_mb, job_id)
    rows = [(job_id, name, key, size) for key, name, size in outputs]
    session.insert_all("output", ("oq_job_id", "display_name", "ds_key", "size_mb"), rows)
    session.touched_jobs.add(job_id)
