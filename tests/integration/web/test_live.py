"""Pages that follow a cluster get each change, and go on where they were."""

from __future__ import annotations

import getpass
from typing import Any

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from tests.integration.web.conftest import Web
from tests.integration.web.test_rows import NOON, make_job
from tests.support.dbservers import LocalDbServer


def test_page_sees_jobs_come_run_and_go(web: Web, client: DbClient) -> None:
    """The whole first, then each change."""
    old = make_job(client, "old", ends=JobState.COMPLETE)
    stream = web.stream("/live/jobs")
    while True:
        whole = stream.wait_for("jobs")
        if whole["is_connected"] and whole["jobs"]:
            break

    job = client.jobs.create_job(
        calculation_mode="classical", description="new", user_name=getpass.getuser(), data_dir="/data"
    )
    client.jobs.transition(job.id, JobState.EXECUTING)
    client.jobs.transition(job.id, JobState.FAILED, "out of luck")
    states: list[dict[str, Any]] = []
    while not states or states[-1]["state"] != "failed":
        states.append(stream.wait_for("job"))
    client.jobs.delete_job(job.id, getpass.getuser(), delete_files=False)
    gone = stream.wait_for("gone")
    stream.close()

    assert [each["id"] for each in whole["jobs"]] == [old]
    assert states[-1]["state_reason"] == "out of luck"
    assert not states[-1]["is_running"]
    assert gone == {"id": job.id}
    assert [each["id"] for each in web.get("/live/jobs.json").json["jobs"]] == [old]


def test_page_that_was_away_goes_on(web: Web, client: DbClient) -> None:
    """`Last-Event-ID` says what it has seen."""
    stream = web.stream("/live/jobs")
    job_id = make_job(client, "first")
    kind, event_id, value = stream.next()
    while not (kind == "job" and value["state"] == "executing"):
        kind, event_id, value = stream.next()
    stream.close()
    client.jobs.transition(job_id, JobState.COMPLETE)

    resumed = web.stream("/live/jobs", Last_Event_ID=event_id)
    kind, _, value = resumed.next()
    while kind == "job" and value["state"] != "complete":  # an event has the job as it is when it is sent
        kind, _, value = resumed.next()
    other_run = web.stream("/live/jobs", Last_Event_ID="00000000-1")
    first_kind, _, _ = other_run.next()
    resumed.close()
    other_run.close()

    assert (kind, value["id"], value["state"]) == ("job", job_id, "complete")
    assert first_kind == "jobs"


def test_dbserver_that_comes_back_is_followed_again(web: Web, dbserver: LocalDbServer) -> None:
    """The page says that it is gone, keeps what it shows, and gets the whole anew."""
    with DbClient(dbserver.settings) as client:
        job_id = make_job(client, "stays")
    stream = web.stream("/live/jobs")
    while not stream.wait_for("jobs")["jobs"]:
        pass
    dbserver.stop()
    lost = stream.wait_for("connection")
    kept = web.get("/live/jobs.json").json
    dbserver.start()
    whole = stream.wait_for("jobs")
    stream.close()

    assert lost == {"is_connected": False}
    assert [each["id"] for each in kept["jobs"]] == [job_id]
    assert whole["is_connected"]
    assert [each["id"] for each in whole["jobs"]] == [job_id]


def test_log_is_followed_to_its_end(web: Web, client: DbClient) -> None:
    """Lines as they come, the state at the end; a reader that was away goes on."""
    job_id = make_job(client, "talks", lines=3)
    stream = web.stream(f"/live/log/{job_id}")
    kind, event_id, lines = stream.next()
    client.logs.append_log(job_id, [LogLine(NOON, "WARNING", "MainProcess/1", "<b>late</b>")])
    late = stream.wait_for("lines")
    stream.close()
    client.jobs.transition(job_id, JobState.COMPLETE)
    resumed = web.stream(f"/live/log/{job_id}", Last_Event_ID=event_id)
    again, end = resumed.wait_for("lines"), resumed.wait_for("end")
    resumed.close()

    assert (kind, [line[3] for line in lines]) == ("lines", ["line 0", "line 1", "line 2"])
    assert late == again == [["2026-05-04T12:00:00.12", "WARNING", "MainProcess/1", "<b>late</b>"]]
    assert end == {"state": "complete"}


def test_log_of_nothing_is_not_followed(web: Web) -> None:
    """404 before any event."""
    stream = web.stream("/live/log/4711")

    assert stream.response.status == 404
    stream.close()


def test_fleet_without_a_broker_says_so(web: Web) -> None:
    """Pages show it, and go on when it comes."""
    stream = web.stream("/live/fleet")
    fleet = stream.wait_for("fleet")
    stream.close()

    assert fleet == {"is_connected": False, "version": "", "nodes": [], "sessions": []}
    assert web.get("/live/fleet.json").json == fleet
