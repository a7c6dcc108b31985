"""Upstream's routes that are rows of the database: what QGIS and scripts get."""

from __future__ import annotations

import datetime
import getpass
import zlib
from pathlib import Path

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.services.web.api import calculations
from tests.integration.web.conftest import Web

# What QGIS reads; all keys of upstream.
LIST_KEYS = [
    "id", "owner", "calculation_mode", "status", "is_running", "description", "url", "parent_id", "abortable",
    "size_mb", "start_time", "relevant", "tags",
]  # fmt: skip
NOON = datetime.datetime(2026, 5, 4, 12, 0, 0, 123456, tzinfo=datetime.UTC)


def make_job(
    client: DbClient,
    description: str,
    *,
    ends: JobState | None = None,
    lines: int = 0,
    data_dir: str = "/data",
) -> int:
    """A job of this user, with so many lines of log, and its end."""
    job = client.jobs.create_job(
        calculation_mode="classical", description=description, user_name=getpass.getuser(), data_dir=data_dir
    )
    client.jobs.transition(job.id, JobState.EXECUTING)
    if lines:
        texts = [LogLine(NOON, "INFO", "MainProcess/1", f"line {number}") for number in range(lines)]
        client.logs.append_log(job.id, texts)
    if ends is not None:
        client.jobs.transition(job.id, ends, "it broke\nat the end" if ends is JobState.FAILED else "")
    return job.id


def test_list_has_upstreams_keys_newest_first(web: Web, client: DbClient) -> None:
    """In upstream's order, with what a running one can be asked."""
    make_job(client, "first", ends=JobState.COMPLETE)
    second = make_job(client, "second")

    rows = web.get("/v1/calc/list").json

    assert [row["description"] for row in rows] == ["second", "first"]
    assert all(list(row) == LIST_KEYS for row in rows)
    assert (rows[0]["is_running"], rows[0]["abortable"], rows[0]["status"]) == (True, True, "executing")
    assert rows[0]["url"] == f"http://127.0.0.1:{web.settings.web_port}/v1/calc/{second}"
    assert rows[0]["start_time"].endswith(" UTC")


def test_list_is_filtered_as_upstream_does(web: Web, client: DbClient) -> None:
    """By state, in pages, in an order."""
    for number in range(5):
        make_job(client, f"job {number}", ends=JobState.COMPLETE if number % 2 else None)

    running = web.get("/v1/calc/list?is_running=true").json
    page = web.get("/v1/calc/list?limit=2&offset=1&order_by=description&order_dir=asc").json

    assert [row["description"] for row in running] == ["job 4", "job 2", "job 0"]
    assert [row["description"] for row in page] == ["job 1", "job 2"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("limit=x", "limit"),
        ("offset=-1", "offset"),
        ("limit=1001", "1000"),
        ("preferred_only=%C2%B2", "preferred_only"),
    ],
)
def test_bad_number_is_refused_in_words(web: Web, query: str, word: str) -> None:
    """Upstream answers 500."""
    answer = web.get(f"/v1/calc/list?{query}")

    assert answer.status == 400
    assert word in answer.json["error"]


def test_one_calculation_and_none(web: Web, client: DbClient) -> None:
    """Its row, its line, and 404 for what is not there."""
    job_id = make_job(client, "here", ends=JobState.COMPLETE)

    row, line = web.get(f"/v1/calc/{job_id}").json, web.get(f"/v1/calc/{job_id}/status").json

    assert (row["description"], row["status"], "pid" in row, "ds_calc_dir" in row) == (
        "here", "complete", False, False,
    )  # fmt: skip
    assert line["id"] == job_id
    missing = [f"/v1/calc/{job_id + 1}{end}" for end in ("", "/status", "/log/0:1", "/log/size")]
    assert [web.get(path).status for path in missing] == [404] * 4
    assert web.get(f"/v1/calc/{10**30}").status == 404


def test_log_is_cut_as_asked(web: Web, client: DbClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """In upstream's shape; pages of the dbserver do not show."""
    job_id = make_job(client, "talks", lines=2500)

    def numbers(cut: str) -> list[int]:
        return [int(row[3].split()[1]) for row in web.get(f"/v1/calc/{job_id}/log/{cut}").json]

    assert web.get(f"/v1/calc/{job_id}/log/0:1").json == [
        ["2026-05-04T12:00:00.12", "INFO", "MainProcess/1", "line 0"]
    ]
    assert numbers(":") == list(range(2500))
    assert numbers("2490:") == list(range(2490, 2500))
    assert numbers("10:1500") == list(range(10, 1500))
    assert numbers("5:5") == []
    assert numbers("9:3") == []
    assert numbers("9000:") == []
    assert web.get(f"/v1/calc/{job_id}/log/size").json == 2500
    assert web.get(f"/v1/calc/{job_id}/log/a:b").status == 404
    assert calculations.PAGE_LINES < 2500


def test_traceback_is_lines(web: Web, client: DbClient) -> None:
    """Of the last error; none without one."""
    failed = make_job(client, "fails", ends=JobState.FAILED)
    good = make_job(client, "works", ends=JobState.COMPLETE)

    assert web.get(f"/v1/calc/{failed}/traceback").json == ["it broke", "at the end"]
    assert web.get(f"/v1/calc/{good}/traceback").json == []
    assert web.get("/v1/calc/999/traceback").json == []  # as upstream


def test_calculation_is_shared_tagged_and_removed(web: Web, client: DbClient) -> None:
    """What is said has "success" or "error", and 403 for the latter."""
    job_id = make_job(client, "mine", ends=JobState.COMPLETE)

    said = [web.post(f"/v1/calc/{job_id}/{verb}").json for verb in ("share", "unshare")]
    tagged = web.get(f"/v1/calc/{job_id}/add_tag/best")
    tags = web.get("/v1/calc/list_tags").json
    row = web.get("/v1/calc/list?filter_by_tag=best").json
    removed = web.post(f"/v1/calc/{job_id}/remove")
    again = web.post(f"/v1/calc/{job_id}/remove")

    assert all("success" in each for each in said)
    assert (tagged.status, "success" in tagged.json, "best" in str(tags)) == (200, True, True)
    assert [each["id"] for each in row] == [job_id]
    assert (removed.status, removed.json["success"]) == (200, str(job_id))
    assert again.status == 403
    assert "error" in again.json


def test_what_does_not_run_is_not_aborted(web: Web, client: DbClient) -> None:
    """In upstream's words."""
    job_id = make_job(client, "over", ends=JobState.COMPLETE)

    assert web.post(f"/v1/calc/{job_id}/abort").json == {"error": f"Job {job_id} is not running"}
    assert web.post("/v1/calc/999/abort").json == {"error": "Unknown job 999"}


def test_service_that_is_missing_is_named(web: Web, client: DbClient) -> None:
    """503 with words, not 500."""
    job_id = make_job(client, "runs")

    answer = web.post(f"/v1/calc/{job_id}/abort")

    assert answer.status == 503
    assert "broker" in answer.json["error"]


def test_shared_files_are_recognised_and_no_others(web: Web, tmp_path: Path) -> None:
    """A client may learn that it sees the same calculations, and nothing of other files."""
    inside, outside = tmp_path / "shared" / "calc_1.hdf5", tmp_path / "secret"
    (tmp_path / "shared" / "link").symlink_to(outside)
    for path in (inside, outside):
        path.write_bytes(b"some bytes")
    checksum = zlib.adler32(b"some bytes", 0)  # QGIS begins with 0

    def says(path: Path, value: int = checksum) -> bool:
        found: bool = web.post("/v1/on_same_fs", f"filename={path}&checksum={value}".encode()).json["success"]
        return found

    assert says(inside)
    assert not says(inside, 1)
    assert not says(outside)
    assert not says(tmp_path / "shared" / "link")
    assert not says(tmp_path / "shared" / ".." / "secret")
    assert not web.post("/v1/on_same_fs", b"\xff\x00").json["success"]


def test_versions_are_plain_text(web: Web) -> None:
    """As QGIS parses them."""
    version = web.get("/v1/engine_version").body.decode()

    assert [part.isdigit() for part in version.split(".")] == [True] * 3
    assert web.get("/v1/engine_latest_version").body == b"None"
