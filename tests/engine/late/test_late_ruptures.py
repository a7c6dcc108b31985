"""A risk calculation exports its ruptures while its tasks run, which the plain engine does before them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.cases import Case, prepare
from tests.engine.conftest import PlainEngine, preloaded_cluster, run_job
from tests.engine.exports import find_differences
from tests.support.clusters import Cluster

pytestmark = [
    pytest.mark.engine,
    # The first use after an installation compiles the engine's kernels, for more than a minute.
    pytest.mark.timeout(900),
]
CASES = [pytest.param(Case(folder), id=folder) for folder in ("event_based_risk/case_miriam",)]


@pytest.fixture(scope="module")
def idle(plain_engine: PlainEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose driver always has an idle core."""
    with preloaded_cluster(tmp_path_factory, "tests.engine.late.idle") as cluster:
        yield cluster


@pytest.mark.parametrize("case", CASES)
def test_ruptures_are_exported_while_the_tasks_of_the_risk_run(
    case: Case, plain_engine: PlainEngine, idle: Cluster, tmp_path: Path
) -> None:
    """The same files, with the same numbers."""
    (job,) = prepare(case, tmp_path / "case")
    (expected,) = plain_engine.exports(case)

    job_id = run_job(idle, job)

    steps = ("Sent 2 ebrisk tasks", "exported ruptures: ", "ebrisk 100%")
    log = [entry["message"] for entry in idle.json("jobs", "logs", job_id)]
    seen = [step for message in log for step in steps if message.startswith(step)]
    assert seen == list(steps)
    assert find_differences(expected, job.export_dir) == []
