"""Two calculations are chosen in the list, and what differs between them is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from quakegrid import testing
from tests.engine.web_servers import CASE, Server
from tests.support.browsers import chromium
from tests.support.clusters import Cluster

SHOTS = Path(__file__).parents[3] / "build" / "screenshots"
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def other_id(ours: Server, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> int:
    """The calculation of our server again, with another level of truncation and another input."""
    folder = testing.copy_engine_case(CASE, tmp_path_factory.mktemp("other") / "case")
    tree = folder / "gsim_logic_tree.xml"
    tree.write_text(f"{tree.read_text()}<!-- another one -->\n")
    (outcome,) = cluster.json("run", folder / "job.ini", "-p", "truncation_level=1")["jobs"]
    return int(outcome["job_id"])


def test_two_calculations_are_compared(ours: Server, other_id: int) -> None:
    """Parameters, inputs, times and results that differ, on a page and as JSON."""
    with chromium.running() as browser, chromium.opened(browser, f"http://{ours.address}") as page:
        page.goto("/calculations")
        for job_id in (other_id, ours.job_id):
            page.get_by_label(f"Compare calculation {job_id}", exact=True).check()
        page.get_by_role("link", name=f"Compare {ours.job_id} and {other_id}").click()

        expect(page.locator("#parameter-rows")).to_contain_text("truncation_level")
        expect(page.locator("#result-words")).to_contain_text("differ")
        expect(page.locator("#result-rows tr").first).to_contain_text("%")
        expect(page.locator("#input-rows")).to_contain_text("gsim_logic_tree.xml")
        expect(page.locator("#time-rows")).to_contain_text("Cores computed")
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / "comparison.png", full_page=True)
    found = ours.json(f"/calculations/N/compare/{other_id}.json")

    assert [each["id"] for each in found["calculations"]] == [ours.job_id, other_id]
    assert {
        each["name"].removesuffix("_between").removesuffix("_within") for each in found["parameters"]
    } == {"truncation_level"}
    curves = by_name(found)["hcurves-stats"]
    assert 0 < curves["differing"] <= curves["count"]
    assert 0 < curves["largest_relative"] <= 1


def by_name(found: dict[str, Any]) -> dict[str, Any]:
    """The results of a comparison."""
    return {each["name"]: each for each in found["results"]}


@pytest.mark.full
def test_calculation_is_the_same_as_itself(ours: Server) -> None:
    """To the last digit."""
    found = ours.json(f"/calculations/N/compare/{ours.job_id}.json")

    assert found["results"]
    assert all(each["is_same"] for each in found["results"])
    assert (found["parameters"], found["inputs"], found["only"]) == ([], [], [[], []])


@pytest.mark.full
def test_calculation_that_is_not_there_is_said(ours: Server) -> None:
    """Whichever of the two it is."""
    assert ours.get("/calculations/N/compare/99999.json")[0] == 404
    assert ours.get(f"/calculations/99999/compare/{ours.job_id}.json")[0] == 404
