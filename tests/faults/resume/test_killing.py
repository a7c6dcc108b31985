"""A calculation that was killed goes on by itself, and exports what an undisturbed one exports."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.engine.cases import Case
from tests.engine.exports import find_differences
from tests.faults.resume import killing
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.full, pytest.mark.timeout(1800)]

CASES: dict[Case, tuple[str, ...]] = {  # with options that make some of them shorter
    Case("classical/case_66"): (),
    Case("classical/case_43"): (),  # with subtasks
    Case("event_based/case_6"): ("-p", "ses_per_logic_tree_path=2"),
    Case("event_based_risk/case_miriam"): (),
    Case("disagg/case_13"): (),
    Case("event_based_damage/case_15"): ("-p", "ses_per_logic_tree_path=100"),
    Case("scenario_risk/conditioned"): ("-p", "number_of_ground_motion_fields=2"),
    Case("classical_risk/case_4", ("job_haz.ini", "job_risk.ini")): ("-p", "width_of_mfd_bin=0.5"),
}
# What the driver does not survive.
DEADLY = ("driver", "agent", "template", "everything")
VICTIMS = (*DEADLY, "broker", "dbserver")
PARTS = (0.1, 0.5, 0.9)


@pytest.fixture(scope="module")
def undisturbed(auto: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[Case, tuple[int, Path]]:
    """How many outcomes each calculation has undisturbed, and what it exports; filled as needed."""

    class Runs(dict[Case, tuple[int, Path]]):
        def __missing__(self, case: Case) -> tuple[int, Path]:
            folder = tmp_path_factory.mktemp("undisturbed") / "case"
            count = killing.undisturbed_count(auto, case, folder, *CASES[case])
            assert count >= 5, "the three places are one"
            self[case] = count, folder / "exports"
            return self[case]

    return Runs()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder)
def test_killed_calculation_gives_the_same_numbers(
    auto: Cluster,
    undisturbed: dict[Case, tuple[int, Path]],
    tmp_path: Path,
    *,
    case: Case,
    victim: str,
    part: float,
) -> None:
    """Whatever was killed, and wherever it was; what was recorded is not computed again."""
    count, expected = undisturbed[case]
    watched = killing.start(auto, case, tmp_path / "case", *CASES[case])
    if not watched.wait_for(math.ceil(count * part)):
        pytest.fail(watched.finish()[1])

    watched.kill(victim)
    if victim in DEADLY:
        watched.wait_for_driver()
    is_started_again = victim in DEADLY and not watched.is_over()
    watched.finish()

    killing.wait_until_complete(auto, watched.job_id + len(case.job_inis) - 1)
    assert find_differences(expected, tmp_path / "case" / "exports") == []
    assert not list((tmp_path / "case" / "exports").glob(".*")), "an export that was cut short"
    if is_started_again:
        job = auto.job(watched.job_id)
        assert job["resume_count"] == 1
        assert job["replayed_count"] >= math.ceil(count * part)
