"""The jobs that tasks may look up."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from quakegrid.engine.tasks import known_jobs
from quakegrid.engine.tasks.known_jobs import MOST_JOBS, KnownJobs


def row(job_id: int, parent_id: int | None = None, status: str = "created") -> Any:
    """What `get_job` gave."""
    place = f"/data/calc_{job_id}"
    return SimpleNamespace(id=job_id, ds_calc_dir=place, hazard_calculation_id=parent_id, status=status)


def test_workers_know_from_their_setup_what_the_driver_knew() -> None:
    """So tasks carry nothing, also if the driver looks again and only the state is another one."""
    known = KnownJobs()
    known.note(row(7))
    known.note(row(8, 7))

    setup = known.for_setup()
    known.note(row(8, 7, "executing"))

    assert setup == {7: row(7), 8: row(8, 7)}
    assert known.for_task() == b""


def test_tasks_carry_what_the_driver_has_learnt_since() -> None:
    """Another job, or another parent of one."""
    known = KnownJobs()
    known.note(row(8))
    known.for_setup()
    known.note(row(8, 7))

    assert pickle.loads(known.for_task()) == {8: row(8, 7)}
    assert known.for_task() is known.for_task()

    known.for_setup()
    assert known.for_task() == b""


def test_driver_that_looks_up_many_jobs_sends_the_last_ones() -> None:
    """A task has a bound."""
    known = KnownJobs()
    for job_id in range(2 * MOST_JOBS):
        known.note(row(job_id))

    assert list(known.for_setup()) == list(range(MOST_JOBS, 2 * MOST_JOBS))


@pytest.mark.parametrize(
    ("action", "args"),
    [("get_job", (9,)), ("get_job", (-1,)), ("get_job", (8, "anna")), ("finish", (8, "failed"))],
)
def test_task_that_asks_for_anything_else_is_told_who_can(action: str, args: tuple[Any, ...]) -> None:
    """Its driver."""
    rows = {8: row(8)}

    assert known_jobs.find(rows, "get_job", (8,)) is rows[8]
    with pytest.raises(RuntimeError, match="only its driver can"):
        known_jobs.find(rows, action, args)
