"""QuakeGrid exports the same numbers as the plain engine, also where workers are served the files of a job.

Workers that are served are here on the driver's machine, but cannot prove that they see its files
(`tests.nofs.blind`). The same over namespaces, with everything hidden, is in `tests/nofs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.cases import CASES, Case, prepare
from tests.engine.conftest import PlainEngine, preloaded_cluster, run_job
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
# Between them their tasks read datastores, those of parents, temporary ones, and source models.
SERVED = ("classical/case_22", "event_based_risk/case_miriam", "classical_risk/case_4")


@pytest.fixture(scope="module")
def blind(plain_engine: PlainEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose workers open no file of a job by its path."""
    with preloaded_cluster(tmp_path_factory, "tests.nofs.blind") as cluster:
        yield cluster


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


@pytest.mark.full
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.folder) for case in CASES if case.folder in SERVED]
)
def test_served_files_give_the_numbers_of_the_plain_engine(
    case: Case, plain_engine: PlainEngine, blind: Cluster, tmp_path: Path
) -> None:
    """No worker opens a datastore by its path."""
    jobs = prepare(case, tmp_path / "case")
    expected_dirs = plain_engine.exports(case)

    parent_id = None
    for job in jobs:
        parent_id = run_job(blind, job, parent_id)
        assert "it gets the job's files over the lane" in blind.log(parent_id)

    for job, expected_dir in zip(jobs, expected_dirs, strict=True):
        assert find_differences(expected_dir, job.export_dir) == []
