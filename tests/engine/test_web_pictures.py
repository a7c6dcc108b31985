"""Pictures on the page of a calculation: the numbers are those of the datastore, and a browser draws them."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from quakegrid import testing
from tests.engine.test_web_runs import files_of, wait_for_end
from tests.engine.web_servers import Server
from tests.integration.web.sending import archive_of
from tests.support.browsers import chromium
from tests.support.clusters import Cluster

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PHONE = {"width": 390, "height": 800}
DESK = {"width": 1200, "height": 900}

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
# What a datastore must have for each picture; None where the shape alone is looked at.
CASES = {
    "disagg/case_1": ["hazard-map", "hazard-curves", "spectra", "disaggregation"],
    "classical_risk/case_3": ["hazard-curves", "asset-loss-curves", "losses"],
    "event_based_risk/case_master": [
        "hazard-map", "hazard-curves", "spectra", "ground-motion", "loss-curves", "losses",
    ],
    "scenario_damage/case_9": ["ground-motion", "damages"],
}  # fmt: skip
LENGTHS = {"lines": "series", "points": "values", "bars": "heights", "cells": "values"}


def run_case(ours: Server, cluster: Cluster, folder: Path) -> int:
    """Send a case, and wait until it is complete."""
    _, _, body = ours.post("/v1/calc/run", {}, ("job.zip", archive_of(folder)))
    job_id = int(json.loads(body)["job_id"])
    assert wait_for_end(ours, job_id) == "complete", cluster.log(job_id)
    return job_id


@pytest.fixture(scope="module")
def hazard_id(ours: Server, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A disaggregation, which has most pictures of hazard."""
    folder = testing.copy_engine_case("disagg/case_1", tmp_path_factory.mktemp("disagg") / "case")
    return run_case(ours, cluster, folder)


def picture(ours: Server, job_id: int, kind: str, query: str = "") -> Any:
    """One picture as a page gets it."""
    status, _, body = ours.get(f"/calculations/{job_id}/pictures/{kind}.json?{query}")
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize("case", [pytest.param(case, marks=pytest.mark.full) for case in list(CASES)[1:]])
def test_calculation_has_its_pictures(ours: Server, cluster: Cluster, tmp_path: Path, case: str) -> None:
    """Each kind with its choices; each choice can be made, and gives numbers."""
    job_id = run_case(ours, cluster, testing.copy_engine_case(case, tmp_path / "case"))

    check_pictures(ours, job_id, CASES[case])


def check_pictures(ours: Server, job_id: int, kinds: list[str]) -> None:
    """All pictures of a calculation, each with the last of each choice as well."""
    listed = ours.json(f"/calculations/{job_id}/pictures.json")
    assert [each["kind"] for each in listed] == kinds
    for kind in kinds:
        made = picture(ours, job_id, kind)
        assert made[LENGTHS[made["shape"]]]
        last = {choice["name"]: choice["options"][-1][0] for choice in made["choices"]}
        again = picture(ours, job_id, kind, "&".join(f"{name}={value}" for name, value in last.items()))
        assert {choice["name"]: choice["value"] for choice in again["choices"]} == last


def test_pictures_of_hazard_are_the_datastores_numbers(ours: Server, hazard_id: int) -> None:
    """Curves, maps and disaggregation, to five digits."""
    check_pictures(ours, hazard_id, CASES["disagg/case_1"])
    curves = picture(ours, hazard_id, "hazard-curves", "site=0&imt=0")
    _, _, body = ours.get(f"/v1/calc/{hazard_id}/extract/hcurves?kind=mean&imt=PGA&site_id=0")
    expected = np.load(io.BytesIO(body))["mean"].ravel()
    (series,) = curves["series"]

    np.testing.assert_allclose(series["y"], expected[expected > 0], rtol=1e-4)
    assert (curves["x"]["unit"], curves["x"]["is_log"], curves["y"]["is_log"]) == ("g", True, True)
    assert curves["y"]["label"] == "Probability of exceedance in 50 years"
    drawn = picture(ours, hazard_id, "hazard-map")
    _, _, body = ours.get(f"/v1/calc/{hazard_id}/extract/hmaps?kind=mean&imt=PGA")
    np.testing.assert_allclose(drawn["values"], np.load(io.BytesIO(body))["mean"][:, 0, 0], rtol=1e-4)
    cells = picture(ours, hazard_id, "disaggregation", "by=2")
    what = "disagg?kind=Mag_Dist&imt=PGA&site_id=0&poe_id=0&spec=rlzs"
    _, _, body = ours.get(f"/v1/calc/{hazard_id}/extract/{what}")
    matrix = np.load(io.BytesIO(body))["array"]
    np.testing.assert_allclose(cells["values"], matrix.reshape(np.shape(cells["values"])), rtol=1e-4)


@pytest.mark.full
def test_picture_that_is_not_there_is_said(ours: Server, hazard_id: int) -> None:
    """In words; a choice that there is not counts as the first."""
    status, _, body = ours.get(f"/calculations/{hazard_id}/pictures/damages.json")
    curves = picture(ours, hazard_id, "hazard-curves", "site=99999&imt=x&other=../../etc")

    assert status == 404
    assert "no picture" in json.loads(body)["error"]
    assert {choice["name"]: choice["value"] for choice in curves["choices"]} == {"imt": "0", "site": "0"}
    assert ours.get(f"/calculations/{hazard_id}/pictures/..%2Fx.json")[0] == 404
    assert ours.get("/calculations/99999/pictures.json")[0] == 404


@pytest.mark.full
def test_reasons_and_parameters_are_told(ours: Server, hazard_id: int) -> None:
    """As by `quakegrid explain`; parameters are texts by name."""
    report = ours.json(f"/calculations/{hazard_id}/report.json")
    parameters = ours.json(f"/calculations/{hazard_id}/parameters.json")

    assert "workers" in report["sentences"][0]
    assert report["times"]["task_count"] == sum(each["task_count"] for each in report["operations"])
    assert max(count for _, count in report["cores"]["busy"]) >= 1
    assert parameters["calculation_mode"] == "disaggregation"
    assert ours.get("/calculations/99999/report.json")[0] == 404


# ---- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with chromium.running() as started:
        yield started


@pytest.fixture
def page(browser: Browser, ours: Server, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of our service, on which no script may fail; light, or as the test's parameter says."""
    options = getattr(request, "param", {"color_scheme": "light", "viewport": DESK})
    with chromium.opened(browser, f"http://{ours.address}", **options) as made:
        yield made


def shoot(page: Page, name: str) -> None:
    """Keep what is seen, for people to look at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def test_archive_is_chosen_run_and_its_picture_read(page: Page, model_zip: Path) -> None:
    """From the list to a picture: with keys, as a table, and as an address to send."""
    page.goto("/calculations")
    page.get_by_text("Run a calculation").click()
    page.locator("#pick-files").set_input_files(model_zip)
    expect(page.locator("#chosen")).to_contain_text("model.zip")
    page.get_by_role("button", name="Run").click()

    page.wait_for_url("**/calculations/*")
    expect(page.locator(".state")).to_have_text("complete")
    chart = page.get_by_role("img", name="Hazard curves")
    expect(chart).to_be_visible()
    expect(page.locator("#stages li").first).to_contain_text("done in")
    expect(page.locator("#reasons li").first).to_contain_text("workers")
    chart.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("[aria-live]")).to_contain_text("mean: 0.4")
    page.get_by_text("Numbers as a table").click()
    expect(page.locator(".table-behind tbody tr").first).to_contain_text("mean")
    page.get_by_label("Intensity").select_option("SA(0.1)")
    expect(page.locator("figcaption")).to_have_text("Hazard curves, SA(0.1)")
    assert "picture=hazard-curves" in page.url
    page.reload()
    expect(page.locator("figcaption")).to_have_text("Hazard curves, SA(0.1)")


@pytest.fixture
def model_zip(tmp_path: Path) -> Path:
    """A small calculation, as one archive."""
    path = tmp_path / "model.zip"
    path.write_bytes(archive_of(testing.copy_engine_case("classical/case_01", tmp_path / "case")))
    return path


DROP = """([names, texts]) => {
  const transfer = new DataTransfer();
  names.forEach((name, at) => transfer.items.add(new File([texts[at]], name)));
  for (const kind of ["dragenter", "dragover", "drop"])
    dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


@pytest.mark.full
def test_files_are_dropped_and_run(page: Page, tmp_path: Path) -> None:
    """Anywhere on the page."""
    files = files_of(testing.copy_engine_case("classical/case_01", tmp_path / "case"))
    chosen = [(name, content.decode()) for name, content in files if name.endswith((".ini", ".xml"))]
    page.goto("/calculations")
    page.evaluate(DROP, [[name for name, _ in chosen], [text for _, text in chosen]])
    expect(page.locator("#chosen")).to_contain_text(f"{len(chosen)} files")

    page.get_by_role("button", name="Run").click()

    page.wait_for_url("**/calculations/*")
    expect(page.locator(".state")).to_have_text("complete")


@pytest.mark.full
def test_what_was_refused_is_said(browser: Browser, ours: Server, tmp_path: Path) -> None:
    """Beside the button, with all of what the engine said behind it."""
    folder = testing.copy_engine_case("classical/case_01", tmp_path / "case")
    (folder / "source_model_logic_tree.xml").unlink()
    path = tmp_path / "broken.zip"
    path.write_bytes(archive_of(folder))
    page = browser.new_page(base_url=f"http://{ours.address}")
    page.goto("/calculations")
    page.get_by_text("Run a calculation").click()
    page.locator("#pick-files").set_input_files(path)

    page.get_by_role("button", name="Run").click()

    expect(page.locator("#run-words")).to_contain_text("No such file")
    page.get_by_text("All of what the engine said").click()
    expect(page.locator("#run-traceback")).to_contain_text("Traceback")
    page.close()


LOOKS = [
    {"color_scheme": "light", "viewport": DESK},
    {"color_scheme": "dark", "viewport": DESK},
    {"color_scheme": "dark", "viewport": PHONE},
]


@pytest.mark.full
@pytest.mark.parametrize("page", LOOKS, indirect=True, ids=["light", "dark", "phone"])
def test_pictures_are_drawn(page: Page, hazard_id: int, request: pytest.FixtureRequest) -> None:
    """Each kind, in light and dark, and no wider than a phone."""
    page.goto(f"/calculations/{hazard_id}")
    for label, mark in [
        ("Hazard map", "svg.chart rect"),
        ("Hazard curves", "svg.chart polyline"),
        ("Uniform hazard spectra", "svg.chart polyline"),
        ("Disaggregation", "svg.chart .bar"),
    ]:
        page.locator("#picture-kinds").get_by_role("button", name=label).click()
        expect(page.locator("#picture-kinds [aria-pressed=true]")).to_have_text(label)
        expect(page.locator("#picture:not([aria-busy])")).to_be_visible()
        expect(page.locator(mark).first).to_be_visible()
        shoot(page, f"{request.node.callspec.id}-{label.lower().replace(' ', '-')}")
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.full
def test_site_of_a_map_leads_to_its_curves(page: Page, hazard_id: int) -> None:
    """A click on it."""
    page.goto(f"/calculations/{hazard_id}#picture=hazard-map")
    dot = page.locator("svg.chart rect[rx]:not(.tip-back)").first
    expect(dot).to_be_visible()
    dot.click(force=True)

    expect(page.locator("figcaption")).to_have_text("Hazard curves, PGA")
    assert "site=" in page.url


@pytest.mark.full
def test_calculation_is_tagged_shared_and_removed(page: Page, ours: Server, model_zip: Path) -> None:
    """What a person does with it; removal asks first."""
    _, _, body = ours.post("/v1/calc/run", {}, ("job.zip", model_zip.read_bytes()))
    job_id = json.loads(body)["job_id"]
    wait_for_end(ours, job_id)
    page.goto(f"/calculations/{job_id}")
    page.get_by_label("Tag", exact=True).fill("for the report")
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".chip")).to_contain_text("for the report")
    assert ours.json(f"/v1/calc/{job_id}/status")["tags"] == "for the report"
    page.get_by_role("button", name="Remove tag for the report").click()
    expect(page.locator(".chip")).to_have_count(0)
    page.get_by_role("button", name="Share").click()
    expect(page.locator(".state")).to_have_text("shared")
    page.get_by_role("button", name="Share no more").click()
    expect(page.locator(".state")).to_have_text("complete")
    asked: list[str] = []

    def agree(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()

    page.on("dialog", agree)
    page.get_by_role("button", name="Remove", exact=True).click()

    page.wait_for_url("**/calculations")
    assert asked == [f"Remove calculation {job_id}, its results and its inputs? This cannot be undone."]
    assert ours.get(f"/v1/calc/{job_id}/status")[0] == 404


@pytest.mark.full
def test_parameters_are_searched_and_compared(page: Page, ours: Server, hazard_id: int) -> None:
    """Only what differs from the other calculation is shown."""
    page.goto(f"/calculations/{hazard_id}")
    page.get_by_text("Parameters", exact=True).click()
    page.locator("#find-parameter").fill("calculation_mode")
    expect(page.locator("#parameters tr:visible")).to_have_count(1)
    page.locator("#find-parameter").fill("")
    page.locator("#other").fill(str(ours.job_id))
    page.keyboard.press("Tab")

    row = page.locator("#parameters tr", has_text="calculation_mode")
    expect(row).to_contain_text("disaggregation")
    expect(row).to_contain_text("classical")


@pytest.mark.full
def test_pictures_of_two_calculations_are_compared(page: Page, ours: Server, hazard_id: int) -> None:
    """Curves stand side by side; what the other has not is said."""
    page.goto(f"/calculations/{hazard_id}#picture=hazard-curves&imt=0")
    expect(page.locator("svg.chart polyline")).to_have_count(1)
    page.get_by_label("Compare with calculation").fill(str(ours.job_id))
    page.keyboard.press("Tab")

    expect(page.locator("svg.chart polyline")).to_have_count(2)
    expect(page.locator(".legend li")).to_have_text([f"{hazard_id}: mean", f"{ours.job_id}: mean"])
    page.get_by_role("button", name="Hazard map").click()
    expect(page.get_by_role("alert")).to_contain_text(
        "It cannot be compared: this calculation has no picture"
    )


@pytest.mark.full
@pytest.mark.parametrize("page", LOOKS, indirect=True, ids=["light", "dark", "phone"])
def test_health_is_shown(page: Page, request: pytest.FixtureRequest) -> None:
    """Services that run, the database, and what the doctor finds."""
    page.goto("/examination")

    expect(page.locator("#when")).to_contain_text("Examined")
    expect(page.locator("#services tr")).to_have_count(4)
    expect(page.locator("#services tr", has_text="web")).to_contain_text("runs")
    expect(page.locator("#database")).to_contain_text("Calculations")
    expect(page.locator("#fine-words")).to_contain_text("checks were fine")
    shoot(page, f"{request.node.callspec.id}-health")
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.full
def test_numbers_of_a_picture_are_saved(page: Page, hazard_id: int) -> None:
    """All of them, as CSV for other programs."""
    page.goto(f"/calculations/{hazard_id}#picture=hazard-map")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()

    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0] == '"Longitude [°]","Latitude [°]","PGA [g]"'
    assert len(lines) == 3


@pytest.mark.full
def test_folder_is_chosen_and_run(page: Page, tmp_path: Path) -> None:
    """With folders inside; of several job files that of hazard is proposed."""
    folder = testing.copy_engine_case("classical_risk/case_4", tmp_path / "model")
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    page.goto("/calculations")
    page.get_by_text("Run a calculation").click()
    page.locator("#pick-folder").set_input_files(folder)
    expect(page.locator("#job-ini")).to_have_value("job_haz.ini")

    page.get_by_role("button", name="Run").click()

    page.wait_for_url("**/calculations/*")
    expect(page.locator(".state")).to_have_text("complete")
    page.get_by_role("link", name="Continue with risk").click()
    expect(page.locator("#continue-from")).not_to_have_value("")
    page.locator("#pick-folder").set_input_files(folder)
    expect(page.locator("#job-ini")).to_have_value("job_risk.ini")
    page.get_by_role("button", name="Run").click()
    page.wait_for_url("**/calculations/*")
    expect(page.locator(".state")).to_have_text("complete")
    expect(page.locator("#facts")).to_contain_text("Starts from")


@pytest.mark.full
def test_report_is_saved_as_one_file(page: Page, hazard_id: int, tmp_path: Path) -> None:
    """It shows where the time went, with the picture, and asks no service for anything."""
    page.goto(f"/calculations/{hazard_id}")
    expect(page.locator("#operations tr").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as one HTML file").click()
    path = tmp_path / "report.html"
    download.value.save_as(path)

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())

    expect(page.locator("svg.chart polyline")).to_have_count(2)
    expect(page.locator("#operations tr").first).to_be_visible()
    assert asked == [path.as_uri()]
