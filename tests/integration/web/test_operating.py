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
from tests.integration.web.conftest import Web
from tests.support.processes import Service

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
