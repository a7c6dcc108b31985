"""A person watches a calculation in the browser and aborts it there."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Dialog, expect

from quakegrid import testing
from tests.support.browsers import chromium
from tests.support.clusters import Cluster, running_cluster
from tests.support.processes import free_port

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster with a web service."""
    extra = {"web": {"port": str(free_port())}}
    with running_cluster(tmp_path_factory.mktemp("web"), tmp_path_factory.mktemp("home"), extra) as cluster:
        yield cluster


def test_calculation_is_seen_and_aborted_in_a_browser(cluster: Cluster, tmp_path: Path) -> None:
    """It appears, tells of its tasks and its log, and ends; another one completes.

    Then the node is drained and started again on the page, and the tasks of the other one are shown.
    """
    slow = testing.copy_engine_case("event_based/case_6", tmp_path / "slow") / "job.ini"
    quick = testing.copy_engine_case("classical/case_01", tmp_path / "quick") / "job.ini"
    (web,) = (each for each in cluster.json("status")["services"] if each["service"] == "web")

    with chromium.running() as browser, chromium.opened(browser, f"http://{web['address']}") as page:
        page.goto("/calculations")
        running = cluster.start("run", slow)
        expect(page.locator("#jobs tr")).to_have_count(1)
        expect(page.locator("#jobs tr progress")).to_have_count(1)
        page.locator("#jobs a").click()
        expect(page.locator("#log")).to_contain_text("Sent 3 event_based tasks")
        expect(page.locator("#facts")).to_contain_text("at work")

        def agree(dialog: Dialog) -> None:
            dialog.accept()

        page.on("dialog", agree)
        page.get_by_role("button", name="Abort").click()
        expect(page.locator("#facts .state")).to_have_text("aborted")
        code, _ = running.finish()
        done = cluster.call("run", quick)
        page.goto("/calculations")
        expect(page.locator("#jobs .complete")).to_have_count(1)
        page.goto("/cluster")
        expect(page.locator(".node")).to_have_count(1)
        expect(page.locator("#summary")).to_contain_text("1 of 1 node is up")
        expect(page.locator(".node meter")).to_have_count(1)
        page.get_by_role("button", name="Drain").click()
        expect(page.locator(".node")).to_contain_text("drained: it takes no new tasks")
        expect(page.locator("#events")).to_contain_text("was stopped: it takes no new tasks")
        page.get_by_role("button", name="Start: 127.0.0.1", exact=True).click()
        expect(page.locator("#summary")).to_contain_text("1 of 1 node is up")
        page.goto("/calculations/2/tasks")
        expect(page.locator(".stream .task").first).to_be_visible()
        bar_count = page.locator(".stream .task").count()
        row_count = page.locator("#bars tr").count()

    with urllib.request.urlopen(f"http://{web['address']}/v1/calc/list", timeout=30) as answer:
        states = [row["status"] for row in json.load(answer)]
    assert code != 0
    assert done.returncode == 0
    assert states == ["complete", "aborted"]
    assert bar_count == row_count > 0
