"""The pages of those who look after a cluster: events, orders to nodes, people and the audit log."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from quakegrid.access.audits import AuditRecord
from quakegrid.clients.audit.client import AuditClient, AuditQuery
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.happenings.events import EventsClient
from quakegrid.reports import task_history_files
from tests.integration.web.conftest import Web
from tests.integration.web.test_rows import make_job
from tests.support.processes import Service
from tests.support.records.task_blocks import OPENED_S, block_of, opening

NODE = "/cluster/nodes/127.0.0.1"


@pytest.fixture
def broker(web: Web) -> Iterator[Service]:
    """A broker whose only node does not answer, and which the web has found."""
    service = Service(web.settings, "broker")
    try:
        service.start()
        stream = web.stream("/live/fleet")
        while not stream.wait_for("fleet")["is_connected"]:
            pass
        stream.close()
        yield service
    finally:
        service.close()


def test_events_come_live_and_outlive_the_broker(web: Web, broker: Service) -> None:
    """The newest first; a page that was away goes on; the next broker's numbers go on."""
    stream = web.stream("/live/events")
    kind, event_id, whole = stream.next()
    while not (kind == "events" and whole["events"]):
        kind, event_id, whole = stream.next()
    stream.close()
    broker.stop()
    broker.start()
    resumed = web.stream("/live/events", Last_Event_ID=event_id)
    found = []
    while not any(each["kind"] == "broker_started" for each in found):
        found.append(resumed.wait_for("event"))
    resumed.close()
    with EventsClient(web.settings) as client:
        listed = client.newest(1000)
        (newest,) = client.newest(1)

    assert whole["is_connected"]
    assert [each["id"] for each in whole["events"]] == sorted(
        (each["id"] for each in whole["events"]), reverse=True
    )
    assert [each.id for each in listed] == list(range(1, newest.id + 1))
    assert [each.kind for each in listed].count("broker_started") == 2


def orders_of(client: DbClient) -> list[AuditRecord]:
    """What the audit log tells of orders to nodes, when it tells of all four."""
    audit = AuditClient(client.connection)
    found: list[AuditRecord] = []
    for record in audit.follow(AuditQuery(), 0):
        if record.about.action in ("Fleet.StopNodes", "Fleet.SetNodeCores", "Fleet.StartNodes"):
            found.append(record)
        if len(found) == 4:
            break
    return found


@pytest.mark.usefixtures("broker")
def test_orders_to_nodes_are_answered_in_words_and_audited(web: Web, client: DbClient) -> None:
    """Also those that do not work; a page of another site can give none."""
    refused = web.post(f"{NODE}/drain", Sec_Fetch_Site="cross-site")
    unheard = web.post(f"{NODE}/drain")
    nowhere = web.post("/cluster/nodes/n9/start")
    cores = web.post(f"{NODE}/cores", json.dumps({"core_count": 1}).encode(), Content_Length="17")
    wrong = [
        web.post(f"{NODE}/cores", body, Content_Length=str(len(body)))
        for body in (b"{}", b"[]", b'{"core_count": true}', b'{"core_count": 1e9}', b"\xff")
    ]
    all_cores = web.post(f"{NODE}/cores", b'{"core_count": -1}', Content_Length="18")

    assert (refused.status, web.get("/cluster/rights.json").json["may_operate"]) == (403, True)
    assert (unheard.status, "does not answer; it was not told" in unheard.json["error"]) == (503, True)
    assert (nowhere.status, nowhere.json) == (404, {"error": "the fleet has no node n9"})
    assert (cores.status, all_cores.status) == (503, 503)
    assert {each.status for each in wrong} == {400}
    assert web.get(f"{NODE}/drain").status == 405
    assert web.post(f"{NODE}/explode").status == 404
    orders = orders_of(client)
    assert [(each.about.action, each.about.node) for each in orders] == [
        ("Fleet.StopNodes", "127.0.0.1"),
        ("Fleet.StartNodes", "n9"),
        ("Fleet.SetNodeCores", "127.0.0.1"),
        ("Fleet.SetNodeCores", "127.0.0.1"),
    ]
    assert {each.about.told for each in orders} == {web.get("/cluster/rights.json").json["name"]}


@pytest.mark.usefixtures("broker")
def test_tasks_are_shown_as_they_end(web: Web, client: DbClient, page: Page) -> None:
    """Each once, to the end of the session; a part of the time has its own; a page has them in a table."""
    job_id = make_job(client, "works")
    path = task_history_files.folder(web.settings) / "4711000"
    path.parent.mkdir(exist_ok=True)
    first = opening(["w0", "w1"])
    first.session.session_id = 4711000
    first.session.job_ids.append(job_id)
    blocks = [
        first,
        block_of([("classical", "w0", 1.0, 1.0, 1), ("classical", "w1", 3.0, 2.0, 1)]),
        block_of([("gmf", "w0", 5.0, 1.5, 2)], 3),
    ]
    blocks[-1].closed_time_s = OPENED_S + 6
    with path.open("ab", buffering=0) as file:
        file.write(b"".join(map(task_history_files.frame, blocks[:-1])))
        nothing = web.get("/live/tasks/4711")
        stream = web.stream(f"/live/tasks/{job_id}")
        while not (shown := web.get(f"/calculations/{job_id}/tasks.json").json)["bars"]:
            stream.wait_for("tasks")
        page.goto(f"/calculations/{job_id}/tasks")
        expect(page.locator(".stream .task")).to_have_count(2)
        file.write(task_history_files.frame(blocks[-1]))
    while not stream.wait_for("tasks")["is_over"]:
        pass
    stream.close()
    over = web.get(f"/calculations/{job_id}/tasks.json").json
    part = web.get(f"/calculations/{job_id}/tasks.json?from=0&to=0.9").json
    wrong = [
        web.get(f"/calculations/{job_id}/tasks.json?{query}").status for query in ("from=1", "from=2&to=1")
    ]

    assert nothing.status == 404
    assert [bar[:5] for bar in shown["bars"]] == [[0, 0.0, 1.0, 0, 1], [1, 1.0, 3.0, 0, 1]]
    assert (over["is_over"], over["end_s"], len(over["bars"])) == (True, 6.0, 3)
    assert [bar[:5] for bar in part["bars"]] == [[0, 0.0, 1.0, 0, 1]]
    assert wrong == [400, 400]
    expect(page.locator(".stream .lost")).to_have_count(1)
    expect(page.locator("#bars tr")).to_have_count(3)
    expect(page.locator("#retries")).to_contain_text("gmf, task 3")
    page.locator(".stream").focus()
    page.keyboard.press("+")
    expect(page.locator("#facts")).to_contain_text("1.5 s to 4.5 s of 6 s")
    assert page.evaluate("document.activeElement.classList.contains('stream')")
    assert page.url.endswith("#from=1.5&to=4.5")


@pytest.mark.usefixtures("broker")
def test_pages_show_events_people_and_the_audit_log(page: Page, web: Web) -> None:
    """A start is no trouble; who did what is searched."""
    web.post("/cluster/nodes/n9/start")
    page.goto("/cluster")

    expect(page.locator("#events")).to_contain_text("the broker started")
    page.get_by_label("only trouble").check()
    expect(page.locator("#events")).not_to_contain_text("the broker started")

    page.goto("/examination")
    expect(page.locator("#audit-box")).to_be_visible()
    expect(page.locator("#no-people")).to_be_visible()
    expect(page.locator("#audit")).to_contain_text("Fleet.StartNodes")
    page.locator("#find-audit").fill("nothing like that")
    expect(page.locator("#audit tr:visible")).to_have_count(0)
