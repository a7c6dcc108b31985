"""QuakeGrid exports the same numbers as the plain engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.cases import CASES, Case, prepare
from tests.engine.conftest import PlainEngine, run_job
from tests.engine.exports import find_differences
from tests.support.clusters import Cluster

pytestmark = [
    pytest.mark.engine,
    # The first use after an installation compiles the engine's kernels, for more than a minute.
    pytest.mark.timeout(900),
]
PARAMETERS = [
    pytest.param(case, id=case.folder, marks=() if case.is_fast else pytest.mark.full) for case in CASES
]


@pytest.mark.parametrize("case", PARAMETERS)
def test_exports_equal_those_of_the_plain_engine(
    case: Case, plain_engine: PlainEngine, cluster: Cluster, tmp_path: Path
) -> None:
    """Every CSV file of every job of a case is there, with the same numbers and text."""
    jobs = prepare(case, tmp_path / "case")
    expected_dirs = plain_engine.exports(case)

    parent_id = None
    for job in jobs:
        parent_id = run_job(cluster, job, parent_id)

    for job, expected_dir in zip(jobs, expected_dirs, strict=True):
        assert any(expected_dir.iterdir()), f"the plain engine exported nothing for {job.job_ini.name}"
        assert find_differences(expected_dir, job.export_dir) == []
