"""A calculation that was killed goes on by itself, and exports what an undisturbed one exports."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.cases import Case
from tests.engine.exports import find_differences
from tests.faults.resume import killing
from tests.support.clusters import Cluster, running_cluster

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(1800)]

CASES = (
    Case("classical/case_66"),
    Case("classical/case_43"),  # with subtasks
    Case("event_based/case_6"),
    Case("event_based_risk/case_miriam"),
    Case("disagg/case_13"),
    Case("event_based_damage/case_15"),
    Case("scenario_risk/conditioned"),
    Case("classical_risk/case_4", ("job_haz.ini", "job_risk.ini")),
)
VICTIMS = (
    ("driver",),
    ("agent",),
    ("template",),
    ("broker",),
    ("dbserver",),
    ("agent", "broker", "dbserver"),
)
PARTS = (0.1, 0.5, 0.9)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster where calculations go on by themselves."""
    root, home = tmp_path_factory.mktemp("cluster"), tmp_path_factory.mktemp("home")
    with running_cluster(root, home, {"broker": {"resume": "auto"}}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[Case, tuple[int, Path]]:
    """How many outcomes each calculation has undisturbed, and what it exports; filled as needed."""

    class Runs(dict[Case, tuple[int, Path]]):
        def __missing__(self, case: Case) -> tuple[int, Path]:
            folder = tmp_path_factory.mktemp("undisturbed") / "case"
            count = killing.undisturbed_count(cluster, case, folder)
            assert count >= 1, "nothing of it runs on the lane"
            self[case] = count, folder / "exports"
            return self[case]

    return Runs()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("victims", VICTIMS, ids="-".join)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder)
def test_killed_calculation_gives_the_same_numbers(
    cluster: Cluster,
    undisturbed: dict[Case, tuple[int, Path]],
    tmp_path: Path,
    *,
    case: Case,
    victims: tuple[str, ...],
    part: float,
) -> None:
    """Whatever was killed, and wherever it was."""
    count, expected = undisturbed[case]
    watched = killing.start(cluster, case, tmp_path / "case")
    if not watched.wait_for(math.ceil(count * part)):
        pytest.fail(watched.finish()[1])

    watched.kill(victims)
    watched.finish()

    killing.wait_until_complete(cluster, watched.job_id + len(case.job_inis) - 1)
    assert find_differences(expected, tmp_path / "case" / "exports") == []
    if "driver" in victims and not watched.is_over():
        assert cluster.job(watched.job_id)["resume_count"] == 1
