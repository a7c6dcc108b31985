"""The pages in a real browser: what a person sees while jobs come, talk and end."""

from __future__ import annotations

import getpass

import pytest
from playwright.sync_api import Dialog, Page, expect

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from tests.integration.web.conftest import Web
from tests.integration.web.test_rows import NOON, make_job
from tests.support.dbservers import LocalDbServer

PHONE = {"width": 360, "height": 640}


def test_list_shows_jobs_as_they_come_and_end(page: Page, client: DbClient) -> None:
    """Without being loaded again."""
    make_job(client, "Old hazard", ends=JobState.COMPLETE)
    page.goto("/")
    expect(page.locator("#jobs tr")).to_have_count(1)

    job_id = make_job(client, "New hazard")
    first = page.locator("#jobs tr").first
    expect(first).to_contain_text("New hazard")
    expect(first.locator(".state")).to_have_text("executing")
    client.jobs.transition(job_id, JobState.FAILED, "no luck")

    expect(first.locator(".state")).to_have_text("failed")
    expect(first.locator(".state")).to_have_attribute("title", "no luck")


def test_list_is_searched(page: Page, client: DbClient) -> None:
    """By words and by state; nothing found is said."""
    make_job(client, "Alps", ends=JobState.COMPLETE)
    make_job(client, "Andes")
    page.goto("/calculations")
    expect(page.locator("#jobs tr")).to_have_count(2)

    page.get_by_label("Find").fill("alp")
    expect(page.locator("#jobs tr")).to_have_count(1)
    page.get_by_label("State").select_option("failed")

    expect(page.locator("#jobs tr")).to_have_count(0)
    expect(page.get_by_text("No calculation is like that.")).to_be_visible()


def test_text_of_people_is_text(page: Page, client: DbClient) -> None:
    """Descriptions and log lines that look like HTML run nothing."""
    evil = "<img src=x onerror=document.body.remove()>"
    job_id = make_job(client, evil)
    client.logs.append_log(job_id, [LogLine(NOON, "INFO", "MainProcess/1", evil)])

    page.goto("/calculations")
    expect(page.locator("#jobs tr").first).to_contain_text(evil)
    page.goto(f"/calculations/{job_id}")

    expect(page.locator("#log")).to_contain_text(evil)
    expect(page.locator("h1")).to_contain_text(evil)
    assert page.locator("img").count() == 0


def test_log_follows_and_is_filtered(page: Page, client: DbClient) -> None:
    """New lines come; the level and the search hide others."""
    job_id = make_job(client, "talks", lines=2)
    page.goto(f"/calculations/{job_id}")
    expect(page.locator("#log div")).to_have_count(2)

    client.logs.append_log(job_id, [LogLine(NOON, "ERROR", "MainProcess/1", "it broke")])
    expect(page.locator("#log div")).to_have_count(3)
    page.get_by_label("Level").select_option("ERROR")
    expect(page.locator("#log div:visible")).to_have_text(["12:00:00 it broke"])
    page.get_by_label("Level").select_option("all")
    page.get_by_label("Find").fill("line 1")

    expect(page.locator("#log div:visible")).to_have_text(["12:00:00 line 1"])


def test_abort_that_does_not_work_is_said(page: Page, client: DbClient) -> None:
    """There is no broker here; the person is asked first, and then told."""
    job_id = make_job(client, "runs on")
    page.goto(f"/calculations/{job_id}")
    asked: list[str] = []

    def agree(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()

    page.on("dialog", agree)

    page.get_by_role("button", name="Abort").click()

    expect(page.get_by_role("alert")).to_contain_text("It was not aborted: the broker")
    assert asked == [f"Abort calculation {job_id}? What it has computed is lost."]


def test_service_that_went_is_said_and_comes_back(
    page: Page, dbserver: LocalDbServer, client: DbClient
) -> None:
    """The page keeps what it shows, says why it is old, and goes on by itself."""
    make_job(client, "stays", ends=JobState.COMPLETE)
    page.goto("/calculations")
    expect(page.locator("#jobs tr")).to_have_count(1)

    dbserver.stop()
    expect(page.get_by_role("alert")).to_contain_text("dbserver does not answer")
    expect(page.locator("#jobs tr")).to_have_count(1)
    dbserver.start()
    expect(page.get_by_role("alert")).to_be_hidden()
    client.jobs.create_job(
        calculation_mode="classical", description="later", user_name=getpass.getuser(), data_dir="/data"
    )

    expect(page.locator("#jobs tr").first).to_contain_text("later")


def test_calculation_that_is_not_there_is_said(page: Page, web: Web) -> None:
    """In words, and with a status for programs; without a false alarm, and with nothing to do to it."""
    for path in ("/calculations/4711", "/calculations/4711/tasks"):
        response = page.goto(path)

        assert response is not None
        assert response.status == 404
        expect(page.locator("h1")).to_have_text("There is no calculation 4711.")
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.get_by_role("textbox")).to_have_count(0)


@pytest.mark.parametrize("path", ["/calculations", "/calculations/1", "/cluster"])
def test_page_fits_a_phone(page: Page, client: DbClient, path: str) -> None:
    """It is no wider than the screen; tables scroll by themselves."""
    make_job(client, "A description that is rather long for a phone, and goes on", lines=5)
    page.set_viewport_size({"width": PHONE["width"], "height": PHONE["height"]})
    page.goto(path)
    expect(page.locator("h1").first).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
