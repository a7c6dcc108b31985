"""The same requests to the engine's own web server and to ours: what QGIS and scripts get is the same."""

from __future__ import annotations

import io
import json
import re
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.web_servers import TIMEOUT_S, Server
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
EXTRACTS = ("oqparam", "sitecol", "hcurves?kind=mean", "hcurves?kind=stats&imt=PGA", "realizations")
# What differs between two runs of a calculation: times, places, ids, users.
OWN_VALUES = ("id", "url", "start_time", "stop_time", "size_mb", "host", "owner", "user_name", "abortable")


def without_own(value: Any) -> Any:
    """A value whose parts that differ between two runs are only named."""
    if isinstance(value, list):
        return [without_own(each) for each in value]
    if isinstance(value, dict):
        return {key: "…" if key in OWN_VALUES else without_own(each) for key, each in value.items()}
    return value


@pytest.mark.parametrize(
    "path", ["/v1/calc/N/status", "/v1/calc/N", "/v1/calc/N/results", "/v1/calc/N/traceback"]
)
def test_rows_are_the_same(plain: Server, ours: Server, path: str) -> None:
    """Keys, their order and values."""
    theirs, own = plain.json(path), ours.json(path)

    assert without_own(own) == without_own(theirs)
    assert json.dumps(without_own(own)) == json.dumps(without_own(theirs))


def test_list_has_the_same_line(plain: Server, ours: Server) -> None:
    """Others of our cluster are left out."""
    (own,) = (row for row in ours.json("/v1/calc/list") if row["id"] == ours.job_id)

    (theirs,) = (row for row in plain.json("/v1/calc/list") if row["id"] == plain.job_id)
    assert without_own(own) == without_own(theirs)


@pytest.mark.parametrize("path", ["/v1/engine_version"])
def test_texts_are_the_same(plain: Server, ours: Server, path: str) -> None:
    """To the byte."""
    assert ours.get(path)[2] == plain.get(path)[2]


@pytest.mark.parametrize(
    "path",
    ["/v1/calc/99999", "/v1/calc/99999/status", "/v1/calc/99999/results", "/v1/calc/99999/extract/oqparam",
     "/v1/calc/result/99999", "/v1/calc/99999/datastore", "/v1/calc/N/extract/nonsense", "/v1/nothing"],
)  # fmt: skip
def test_errors_have_the_same_status(plain: Server, ours: Server, path: str) -> None:
    """Words are our own."""
    assert ours.get(path)[0] == plain.get(path)[0]


def test_log_has_the_same_shape(plain: Server, ours: Server) -> None:
    """Time, level, process, message; slices mean the same."""
    theirs, own = plain.json("/v1/calc/N/log/0:5"), ours.json("/v1/calc/N/log/0:5")

    assert [len(row) for row in own] == [len(row) for row in theirs] == [4] * 5
    pattern = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d")
    assert all(pattern.fullmatch(row[0]) for row in (*own, *theirs))
    assert ours.json("/v1/calc/N/log/2:4") == own[2:4]
    assert plain.json("/v1/calc/N/log/2:4") == theirs[2:4]


@pytest.mark.parametrize("what", EXTRACTS)
def test_extracts_are_the_same_arrays(plain: Server, ours: Server, what: str) -> None:
    """As `WebExtractor` reads them."""
    answers = [server.get(f"/v1/calc/N/extract/{what}") for server in (plain, ours)]
    theirs, own = (dict(np.load(io.BytesIO(body))) for _, _, body in answers)

    assert [status for status, _, _ in answers] == [200, 200]
    assert answers[1][1]["content-type"] == answers[0][1]["content-type"]
    assert own.keys() == theirs.keys()
    for name in theirs.keys() - {"json"}:  # parameters, with folders of their own
        np.testing.assert_array_equal(own[name], theirs[name])


def test_exports_are_the_same_files(plain: Server, ours: Server) -> None:
    """Of each output in each format, by name and content; so are their headers."""
    compared = 0
    for theirs, own in zip(plain.json("/v1/calc/N/results"), ours.json("/v1/calc/N/results"), strict=True):
        for kind in theirs["outtypes"]:
            answers = [
                server.get(f"/v1/calc/result/{output['id']}?export_type={kind}")
                for server, output in ((plain, theirs), (ours, own))
            ]
            (_, their_headers, their_body), (_, own_headers, own_body) = answers

            assert [status for status, _, _ in answers] == [200, 200], kind
            assert (
                own_headers["content-type"].partition(";")[0]
                == their_headers["content-type"].partition(";")[0]
            )
            names = [
                re.sub(r"\d+", "#", headers["content-disposition"])
                for headers in (their_headers, own_headers)
            ]
            assert names[0] == names[1]
            if zipfile.is_zipfile(io.BytesIO(own_body)) and kind == "csv":
                _same_archives(their_body, own_body)
                compared += 1
    assert compared


def _same_archives(theirs: bytes, own: bytes) -> None:
    """Files of the same names but for ids, with the same lines but for the first, which tells of the run."""
    with zipfile.ZipFile(io.BytesIO(theirs)) as one, zipfile.ZipFile(io.BytesIO(own)) as other:
        assert [re.sub(r"_\d+\.", "_#.", name) for name in sorted(other.namelist())] == [
            re.sub(r"_\d+\.", "_#.", name) for name in sorted(one.namelist())
        ]
        for first, second in zip(sorted(one.namelist()), sorted(other.namelist()), strict=True):
            assert other.read(second).splitlines()[1:] == one.read(first).splitlines()[1:]


def test_datastore_is_given_whole_and_in_parts(cluster: Cluster, ours: Server) -> None:
    """As `oq importcalc` reads it, and as a broken download goes on; upstream gives the whole only."""
    job = cluster.json("jobs", "show", ours.job_id)
    path = Path(f"{job['ds_calc_dir']}.hdf5")
    url = f"http://{ours.address}/v1/calc/{ours.job_id}/datastore"
    request = urllib.request.Request(url, headers={"Range": "bytes=100-199"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        part = answer.read()

    status, headers, whole = ours.get("/v1/calc/N/datastore")

    assert (status, whole) == (200, path.read_bytes())
    assert headers["content-disposition"] == f"attachment; filename={path.name}"
    assert part == whole[100:200]


def test_output_without_such_a_format_is_not_found(plain: Server, ours: Server) -> None:
    """As upstream means it; its own answer to a format that nothing has is 500."""
    (curves,) = (each for each in ours.json("/v1/calc/N/results") if each["type"] == "hcurves")

    status, _, body = ours.get(f"/v1/calc/result/{curves['id']}?export_type=nope")

    assert status == 404
    assert b"export_type=nope, hcurves" in body
    assert plain.get("/v1/calc/N/results")[0] == 200
