"""Calculations that are sent: the engine's own server and ours take, judge and start the same."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from quakegrid import testing
from quakegrid.machine import service_files
from quakegrid.settings import config
from tests.engine.web_servers import CASE, Server
from tests.integration.web.sending import archive_of
from tests.support.clusters import Cluster
from tests.support.processes import free_port

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
END_S = 120.0
REPOSITORY = Path(__file__).parents[2]
# Of a row: what differs between two runs, and two machines' clocks.
OWN_VALUES = ("start_time", "ds_calc_dir", "pid", "host", "user_name", "job_id")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small calculation's folder."""
    return testing.copy_engine_case(CASE, tmp_path / "case")


def files_of(model: Path) -> list[tuple[str, bytes]]:
    """Names and contents, as a browser sends them."""
    return [(path.name, path.read_bytes()) for path in sorted(model.iterdir()) if path.is_file()]


def wait_for_end(server: Server, job_id: int) -> str:
    """The last state of a calculation."""
    end_s = time.monotonic() + END_S
    while (row := server.json(f"/v1/calc/{job_id}/status"))["is_running"]:
        assert time.monotonic() < end_s, row
        time.sleep(0.05)
    return str(row["status"])


def without_own(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose values that differ are only named."""
    return {key: "…" if key in OWN_VALUES else value for key, value in row.items()}


def test_archive_is_run(plain: Server, ours: Server, model: Path) -> None:
    """The answers have the same keys in the same order; it ends complete, as the asking person's."""
    content = archive_of(model)
    (their_status, their_headers, theirs), (own_status, own_headers, own) = (
        server.post("/v1/calc/run", {}, ("job.zip", content)) for server in (plain, ours)
    )

    assert own_status == their_status == 200
    assert own_headers["content-type"] == their_headers["content-type"]
    assert json.dumps(without_own(json.loads(own))) == json.dumps(without_own(json.loads(theirs)))
    job_id = json.loads(own)["job_id"]
    assert wait_for_end(ours, job_id) == "complete"
    assert ours.json(f"/v1/calc/{job_id}/results")
    assert ours.json(f"/v1/calc/{job_id}")["user_name"] == ours.json("/v1/calc/N")["user_name"]


@pytest.mark.full
def test_files_are_run(ours: Server, model: Path) -> None:
    """As QGIS sends them."""
    status, _, body = ours.post("/v1/calc/run", {"job_ini": "job.ini"}, *files_of(model))

    assert status == 200
    assert wait_for_end(ours, json.loads(body)["job_id"]) == "complete"


def test_missing_input_is_told(plain: Server, ours: Server, model: Path) -> None:
    """500 with the traceback and the failed calculation, whose log has it."""
    (model / "source_model_logic_tree.xml").unlink()
    content = archive_of(model)
    answers = [server.post("/v1/calc/run", {}, ("job.zip", content)) for server in (plain, ours)]
    (their_status, _, theirs), (own_status, _, own) = answers
    told, expected = json.loads(own), json.loads(theirs)

    assert own_status == their_status == 500
    assert told.keys() == expected.keys()
    assert "No such file" in told["traceback"][-1]
    assert "No such file" in expected["traceback"][-1]
    rows = [
        server.json(f"/v1/calc/{answer['job_id']}/status")
        for server, answer in ((plain, expected), (ours, told))
    ]
    assert [row["status"] for row in rows] == ["failed", "failed"]
    assert [row["description"] for row in rows] == ["Calculation waiting to start"] * 2
    logs = [
        server.json(f"/v1/calc/{answer['job_id']}/log/0:")
        for server, answer in ((plain, expected), (ours, told))
    ]
    assert [[line[1:3] for line in log] for log in logs] == [[["CRITICAL", "before starting"]]] * 2
    assert "OSError" in logs[1][0][3]


@pytest.mark.full
def test_bad_parameter_is_told(plain: Server, ours: Server, model: Path) -> None:
    """By the engine's own validation."""
    job_ini = model / "job.ini"
    job_ini.write_text(job_ini.read_text().replace("classical", "nonsense"))
    content = archive_of(model)
    answers = [server.post("/v1/calc/run", {}, ("job.zip", content)) for server in (plain, ours)]

    assert [status for status, _, _ in answers] == [500, 500]
    assert [json.loads(body)["traceback"][-1] for _, _, body in answers][1] != ""


@pytest.mark.full
def test_job_file_on_the_server_is_run(plain: Server, ours: Server, model: Path) -> None:
    """By its path; an unreadable one has 500 there and 400 here, before the engine sees it."""
    fields = {"job_ini": str(model / "job.ini")}
    (their_status, _, theirs), (own_status, _, own) = (
        server.post("/v1/calc/run_ini", fields) for server in (plain, ours)
    )

    assert own_status == their_status == 200
    assert json.loads(own).keys() == json.loads(theirs).keys()
    assert wait_for_end(ours, json.loads(own)["job_id"]) == "complete"
    assert plain.post("/v1/calc/run_ini", {"job_ini": "/etc/passwd"})[0] == 500
    assert ours.post("/v1/calc/run_ini", {"job_ini": "/etc/passwd"})[0] == 400


@contextmanager
def listener() -> Iterator[tuple[str, list[dict[str, Any]], threading.Event]]:
    """An address that is told of ends, what came, and that something came."""
    found: list[dict[str, Any]] = []
    came = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            came.set()

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}/told", found, came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.full
def test_end_is_told_to_an_address(ours: Server, model: Path) -> None:
    """As upstream does: with the row, and the error if there is one."""
    with listener() as (address, found, came):
        # The settings of the cluster allow this name; other hosts of its own network are refused.
        inside = {"notify_to": address.replace("localhost", "127.0.0.1")}
        refused_id = json.loads(ours.post("/v1/calc/run", inside, ("job.zip", archive_of(model)))[2])[
            "job_id"
        ]
        wait_for_end(ours, refused_id)
        _, _, body = ours.post("/v1/calc/run", {"notify_to": address}, ("job.zip", archive_of(model)))
        assert came.wait(END_S)

    (told,) = found
    assert told["job_id"] == json.loads(body)["job_id"]
    assert told["error"] is None
    log = ours.json(f"/v1/calc/{refused_id}/log/0:")
    assert any("127.0.0.1 is a host of this network" in message for _, _, _, message in log)


@pytest.mark.full
def test_risk_continues_from_hazard(cluster: Cluster, ours: Server, tmp_path: Path) -> None:
    """By `hazard_job_id`, as QGIS does; its job file is found by the end of its name."""
    folder = testing.copy_engine_case("classical_risk/case_4", tmp_path / "risk")
    hazard = ours.post("/v1/calc/run", {"job_ini": "job_haz.ini"}, *files_of(folder))
    hazard_id = json.loads(hazard[2])["job_id"]
    assert wait_for_end(ours, hazard_id) == "complete", cluster.log(hazard_id)

    fields = {"hazard_job_id": str(hazard_id), "job_ini": "job_risk.ini"}
    status, _, body = ours.post("/v1/calc/run", fields, *files_of(folder))

    assert status == 200, body
    told = json.loads(body)
    assert told["hazard_calculation_id"] == hazard_id
    assert wait_for_end(ours, told["job_id"]) == "complete", cluster.log(told["job_id"])
    status, _, body = ours.post("/v1/calc/run", {**fields, "hazard_job_id": "99999"}, *files_of(folder))
    assert status == 400
    assert "no calculation 99999" in json.loads(body)["traceback"][-1]


def test_input_outside_is_refused_by_what_the_engine_finds(ours: Server, model: Path, tmp_path: Path) -> None:
    """A logic tree names a source model that did not come; nothing of its content is told."""
    (tmp_path / "secret.xml").write_text("<secret>tell nobody</secret>")
    tree = model / "source_model_logic_tree.xml"
    outside = f"{'../' * 12}{tmp_path}/secret.xml"
    tree.write_text(tree.read_text().replace("source_model.xml", outside))

    status, _, body = ours.post("/v1/calc/run", {}, ("job.zip", archive_of(model)))

    assert status == 500
    assert "tell nobody" not in body.decode()
    assert "lies outside" in json.loads(body)["traceback"][-1]


def test_calculation_is_removed_with_its_inputs(ours: Server, cluster: Cluster, model: Path) -> None:
    """The folder that it was sent, and the record of it."""
    _, _, body = ours.post("/v1/calc/run", {}, ("job.zip", archive_of(model)))
    job_id = json.loads(body)["job_id"]
    records = [
        path
        for path in cluster.state_dir.rglob("web-inputs/*.json")
        if json.loads(path.read_text())["job_id"] == job_id
    ]
    wait_for_end(ours, job_id)

    answer = ours.post(f"/v1/calc/{job_id}/remove")

    assert answer[0] == 200
    (record,) = records
    assert not record.exists()
    assert not record.with_suffix("").exists()


def test_client_works_as_qgis_does(ours: Server, tmp_path: Path) -> None:
    """Sends, follows the list and the log, aborts; then removes."""
    folder = testing.copy_engine_case("event_based/case_6", tmp_path / "slow")
    _, _, body = ours.post("/v1/calc/run", {"job_ini": "job.ini"}, *files_of(folder))
    job_id = json.loads(body)["job_id"]
    end_s = time.monotonic() + END_S
    while not any("tasks" in line[3] for line in ours.json(f"/v1/calc/{job_id}/log/0:")):
        assert time.monotonic() < end_s
        time.sleep(0.05)
    (row,) = (each for each in ours.json("/v1/calc/list") if each["id"] == job_id)
    assert (row["is_running"], row["abortable"]) == (True, True)

    said = ours.post(f"/v1/calc/{job_id}/abort")

    assert (said[0], json.loads(said[2])) == (200, {"success": f"Killing job {job_id}"})
    assert wait_for_end(ours, job_id) == "aborted"
    assert json.loads(ours.post(f"/v1/calc/{job_id}/abort")[2]) == {"error": f"Job {job_id} is not running"}
    assert ours.post(f"/v1/calc/{job_id}/remove")[0] == 200
    assert ours.get(f"/v1/calc/{job_id}/status")[0] == 404


@pytest.mark.full
@pytest.mark.parametrize("what", ["valid", "missing file", "no job file"])
def test_archive_is_validated(plain: Server, ours: Server, model: Path, what: str) -> None:
    """The same keys; upstream calls each archive invalid, for a fault of its own."""
    if what == "missing file":
        (model / "source_model_logic_tree.xml").unlink()
    if what == "no job file":
        (model / "job.ini").unlink()
    content = archive_of(model)
    answers = [server.post("/v1/calc/validate_zip", {}, ("job.zip", content)) for server in (plain, ours)]
    (their_status, _, theirs), (own_status, _, own) = answers

    assert own_status == their_status == 200
    assert list(json.loads(own)) == list(json.loads(theirs))
    assert json.loads(own)["valid"] == (what == "valid")
    assert not json.loads(theirs)["valid"]
    assert [server.post("/v1/calc/validate_zip")[0] for server in (plain, ours)] == [400, 400]


@pytest.mark.full
def test_job_file_on_the_server_is_validated(ours: Server, model: Path) -> None:
    """By its path; nothing is made of it."""
    before = ours.json("/v1/calc/list")

    status, _, body = ours.post("/v1/calc/validate_ini", {"job_ini": str(model / "job.ini")})

    assert (status, json.loads(body)) == (200, {"error_msg": None, "error_line": None, "valid": True})
    assert ours.json("/v1/calc/list") == before


VALID = """<?xml version="1.0" encoding="utf-8"?>
<nrml xmlns="http://openquake.org/xmlns/nrml/0.4"><simpleFaultRupture>
<magnitude>7.65</magnitude><rake>15.0</rake><hypocenter lon="0.0" lat="0.0" depth="-5.0"/>
<simpleFaultGeometry><gml:LineString xmlns:gml="http://www.opengis.net/gml"><gml:posList>
-124.704 40.363 -124.977 41.214</gml:posList></gml:LineString><dip>50.0</dip>
<upperSeismoDepth>12.5</upperSeismoDepth><lowerSeismoDepth>19.5</lowerSeismoDepth></simpleFaultGeometry>
</simpleFaultRupture></nrml>"""


@pytest.mark.full
@pytest.mark.parametrize(
    "text",
    [VALID, "<a>", VALID.replace("7.65", "big"), VALID.replace("</nrml>", ""), VALID.replace("15.0", "")],
)
def test_xml_is_validated(plain: Server, ours: Server, text: str) -> None:
    """The same verdict, line and words, but for the server's own file, which we do not name."""
    (their_status, _, theirs), (own_status, _, own) = (
        server.post("/v1/valid/", {"xml_text": text}) for server in (plain, ours)
    )
    told, expected = json.loads(own), json.loads(theirs)

    assert own_status == their_status == 200
    assert json.dumps(told | {"error_msg": ""}) == json.dumps(expected | {"error_msg": ""})
    words = re.sub(r"/\S+\.xml", "the file", expected["error_msg"] or "")
    assert (told["error_msg"] or "") == words
    assert [server.post("/v1/valid/")[0] for server in (plain, ours)] == [400, 400]


@pytest.mark.full
@pytest.mark.parametrize("path", ["/v1/available_gsims", "/v1/ini_defaults"])
def test_facts_of_the_engine_are_the_same(plain: Server, ours: Server, path: str) -> None:
    """Values and their order."""
    theirs, own = plain.get(path), ours.get(path)

    assert own[1]["content-type"] == theirs[1]["content-type"]
    assert json.loads(own[2]) == json.loads(theirs[2])


@pytest.mark.full
def test_what_a_calculation_has_not_is_told(plain: Server, ours: Server) -> None:
    """A hazard calculation has no job.zip; a picture that is not there is 500 there and 404 here."""
    assert [server.get("/v1/calc/N/job_zip")[0] for server in (plain, ours)] == [400, 400]
    assert [server.get("/v1/calc/99999/job_zip")[0] for server in (plain, ours)] == [404, 404]
    assert [server.get("/v1/calc/N/download_png/x.png")[0] for server in (plain, ours)] == [500, 404]
    assert [server.get("/v1/calc/99999/download_png/x.png")[0] for server in (plain, ours)] == [404, 404]


@pytest.mark.full
def test_jobs_of_job_files_are_found(plain: Server, ours: Server, model: Path) -> None:
    """By the checksum of their inputs; 0 for one that nobody has computed."""
    (model / "job.ini").write_text((model / "job.ini").read_text().replace("Case 1", "Case one"))
    path = f"/v1/calc/jobs_from_inis?ini={model / 'job.ini'}"

    assert ours.json(path) == plain.json(path) == {"success": [0], "error": ""}
    bad = "/v1/calc/jobs_from_inis?ini=/nowhere/job.ini"
    assert (plain.get(bad)[0], ours.get(bad)[0]) == (500, 400)


def test_calculation_outlives_the_service(cluster: Cluster, ours: Server, model: Path) -> None:
    """It goes on when the web service is killed; `oq webui start` starts that again, and says where."""
    record = service_files.read(config.load_settings(cluster.state_dir, cluster.environ), "web")
    assert record is not None
    job_ini = model / "job.ini"
    # Enough work to go on for a while when the service is gone.
    finer = job_ini.read_text().replace("rupture_mesh_spacing = 1.0", "rupture_mesh_spacing = 0.1")
    job_ini.write_text(finer)
    _, _, body = ours.post("/v1/calc/run", {}, ("job.zip", archive_of(model)))
    job_id = json.loads(body)["job_id"]
    os.kill(record.pid, signal.SIGKILL)
    killed_time = datetime.datetime.now(datetime.UTC)

    said = cluster.call("oq", "webui", "start", "127.0.0.1:1")
    again = cluster.call("oq", "webui", "start")

    assert said.returncode == again.returncode == 0, said.stderr
    assert f"http://{ours.address}/" in said.stdout + said.stderr
    assert "not at 127.0.0.1:1" in said.stdout + said.stderr
    assert wait_for_end(ours, job_id) == "complete", cluster.log(job_id)
    now = service_files.read(config.load_settings(cluster.state_dir, cluster.environ), "web")
    assert now is not None
    assert now.pid != record.pid
    assert datetime.datetime.fromisoformat(cluster.job(job_id)["stop_time"]) > killed_time


def test_example_of_the_manual_runs(ours: Server, model: Path, tmp_path: Path) -> None:
    """Sends, follows and downloads with plain httpx, in thirty lines."""
    text = (REPOSITORY / "docs" / "how-to" / "http-api.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(example.splitlines()) <= 30
    (tmp_path / "model.zip").write_bytes(archive_of(model))
    command = [sys.executable, "-c", example, f"http://{ours.address}", "model.zip"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=END_S, check=False)

    assert done.returncode == 0, done.stderr
    assert "complete" in done.stdout.splitlines()[-1]
    assert (tmp_path / "hcurves.csv").exists()
