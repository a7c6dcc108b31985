"""Served files give the numbers of the plain engine, with whatever version of the engine this is.

The workers of this cluster are on the driver's machine and see its files, but cannot prove that they do
(`tests.nofs.blind`). The same over namespaces, with everything hidden, is in `tests/nofs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.cases import Case, prepare
from tests.engine.conftest import PlainEngine, run_job
from tests.engine.exports import find_differences
from tests.support.clusters import Cluster, running_cluster

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(900)]
# Between them they read datastores, those of parents, temporary ones, and source models.
SERVED = (
    Case("classical/case_22"),
    Case("event_based_risk/case_miriam"),
    Case("classical_risk/case_4", ("job_haz.ini", "job_risk.ini")),
)


@pytest.fixture(scope="module")
def blind(plain_engine: PlainEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose workers open no file of a job by its path."""
    root, home = tmp_path_factory.mktemp("cluster"), tmp_path_factory.mktemp("home")
    with running_cluster(root, home, {"agent": {"preload": "openquake, tests.nofs.blind"}}) as cluster:
        yield cluster


@pytest.mark.parametrize("case", [pytest.param(case, id=case.folder) for case in SERVED])
def test_served_files_give_the_numbers_of_the_plain_engine(
    case: Case, plain_engine: PlainEngine, blind: Cluster, tmp_path: Path
) -> None:
    """The workers are told that they do not share the files, and open none of them by its path."""
    jobs = prepare(case, tmp_path / "case")
    expected_dirs = plain_engine.exports(case)

    parent_id = None
    for job in jobs:
        parent_id = run_job(blind, job, parent_id)
        assert "it gets the job's files over the lane" in blind.log(parent_id)

    for job, expected_dir in zip(jobs, expected_dirs, strict=True):
        assert find_differences(expected_dir, job.export_dir) == []
