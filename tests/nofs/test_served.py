"""Calculations on nodes that see nothing of the master's files: the numbers of the plain engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.cases import CASES, Case
from tests.engine.exports import find_differences
from tests.engine.plain_runs import PlainEngine, running_plain_engine
from tests.nofs.apart import Apart

# Names and addresses of its namespaces are fixed.
pytestmark = [pytest.mark.engine, pytest.mark.alone, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[PlainEngine]:
    """The plain engine at work on the cases that were chosen."""
    chosen = {
        item.callspec.params["case"].folder
        for item in request.session.items
        if hasattr(item, "callspec") and "case" in item.callspec.params
    }
    cases = [case for case in CASES if case.folder in chosen]
    with running_plain_engine(tmp_path_factory.mktemp("plain"), cases) as plain:
        yield plain


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder)
def test_numbers_are_the_plain_engines(case: Case, apart: Apart, plain: PlainEngine) -> None:
    """Whatever its tasks read."""
    jobs = apart.run(case)

    for expected, job in zip(plain.exports(case), jobs, strict=True):
        assert find_differences(expected, job.export_dir) == []
