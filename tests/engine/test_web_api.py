"""The same requests to the engine's own web server and to ours: what QGIS and scripts get is the same."""

from __future__ import annotations

import io
import json
import re
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.web import exchanges
from tests.engine.web.exchanges import DIFFERENCES, EXCHANGES, FORM, Exchange
from tests.engine.web_servers import TIMEOUT_S, Server
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]
# What differs between two runs of a calculation: times, places, ids, users.
OWN_VALUES = ("id", "url", "start_time", "stop_time", "size_mb", "host", "owner", "user_name", "abortable")
# Of calculations, in words and in answers about one.
NUMBERS = re.compile(r"""(?i)(\bjob|\bcalculation|"job_id":) \d+""")


def without_own(value: Any) -> Any:
    """A value whose parts that differ between two runs are only named."""
    if isinstance(value, list):
        return [without_own(each) for each in value]
    if isinstance(value, dict):
        return {key: "…" if key in OWN_VALUES else without_own(each) for key, each in value.items()}
    return value


def test_each_route_of_the_engine_is_compared(plain: Server) -> None:
    """As its own server lists them: a route that is not in the table fails."""
    paths = [each.path.partition("?")[0].replace("/N", "/1", 1).replace("/O", "/1") for each in EXCHANGES]
    forgotten = [
        route for route in plain.routes if not any(re.match(as_pattern(route), path[1:]) for path in paths)
    ]

    assert plain.routes
    assert forgotten == []


def as_pattern(route: str) -> str:
    """A pattern of Django's as a regular expression."""
    text = route.replace("/^", "/").removeprefix("^")
    if "<int:" in text or "<str:" in text:
        text = re.sub(r"<int:\w+>", r"\\d+", re.sub(r"<str:\w+>", "[^/]+", text)) + "$"
    return text


def test_each_difference_is_shown() -> None:
    """By an exchange or a test of its own; the manual has the table."""
    shown = {each.differs for each in EXCHANGES} | exchanges.SHOWN_ELSEWHERE

    assert shown - {""} == set(DIFFERENCES)
    assert exchanges.written_table() == exchanges.table(), "run python -m tests.engine.web.exchanges"


def test_answers_are_the_same(plain: Server, ours: Server) -> None:
    """Status, headers that clients read, keys and their order, values, arrays; but for the table."""
    found = [
        f"{exchange}: {trouble}"
        for exchange in EXCHANGES
        for trouble in differences(exchange, *(answer_of(server, exchange) for server in (plain, ours)))
    ]

    assert found == [], "\n".join(found)


Answer = tuple[int, dict[str, str], bytes]


def answer_of(server: Server, exchange: Exchange) -> Answer:
    """What a server answers."""
    path = exchange.path
    if "/O" in path:
        outputs = server.json("/v1/calc/N/results")
        path = path.replace("/O", f"/{next(each['id'] for each in outputs if 'csv' in each['outtypes'])}")
    is_form = exchange.method in ("POST", "PUT")
    headers = {"Content-Type": FORM} if is_form else {}
    return server.ask(exchange.method, path, exchange.body.encode() if is_form else None, headers)


def differences(exchange: Exchange, theirs: Answer, own: Answer) -> Iterator[str]:
    """What differs that may not."""
    statuses = (theirs[0], own[0])
    if statuses != (exchange.statuses or (theirs[0], theirs[0])):
        yield f"statuses {statuses}"
    if "access-control-allow-origin" in own[1]:
        yield "it is open to other sites"
    if own[0] in (301, 307, 405) and "location" not in own[1] and "allow" not in own[1]:
        yield "it does not say where to go, or what is allowed"
    if own[0] == 405 == theirs[0] and set(own[1]["allow"].split(", ")) - {"HEAD"} != {theirs[1]["allow"]}:
        yield f"allowed: {theirs[1]['allow']}, {own[1]['allow']}"
    if exchange.compares != "status":
        if own[1]["content-type"].partition(";")[0] != theirs[1]["content-type"].partition(";")[0]:
            yield f"types {theirs[1]['content-type']}, {own[1]['content-type']}"
        yield from COMPARISONS[exchange.compares](theirs, own)


def differs_json(theirs: Answer, own: Answer) -> Iterator[str]:
    """Keys in their order, and values, but for the numbers of calculations in words."""
    bodies = (json.loads(body) for _, _, body in (theirs, own))
    texts = [NUMBERS.sub(r"\1 N", json.dumps(without_own(body))) for body in bodies]
    if texts[0] != texts[1]:
        yield f"values {texts}"


def differs_npz(theirs: Answer, own: Answer) -> Iterator[str]:
    """Arrays, as `WebExtractor` reads them."""
    arrays = [dict(np.load(io.BytesIO(body))) for _, _, body in (theirs, own)]
    names = [file_name(answer).partition(".")[0] for answer in (theirs, own)]
    if not names[0].startswith(names[1]):
        yield f"names {names}"
    if arrays[0].keys() != arrays[1].keys():
        yield f"arrays {list(arrays[0])}, {list(arrays[1])}"
        return
    for name in arrays[0].keys() - {"json"}:  # parameters, with folders of their own
        if arrays[0][name].dtype != arrays[1][name].dtype or not np.array_equal(
            arrays[0][name], arrays[1][name]
        ):
            yield f"array {name}"


def differs_file(theirs: Answer, own: Answer) -> Iterator[str]:
    """Its name, which QGIS reads up to the end of the line; its length is announced."""
    names = [re.sub(r"\d+", "#", file_name(answer)) for answer in (theirs, own)]
    if names[0] != names[1]:
        yield f"names {names}"
    if own[1].get("content-length") != str(len(own[2])):
        yield "its length is not announced"


COMPARISONS = {"json": differs_json, "npz": differs_npz, "file": differs_file}


def file_name(answer: Answer) -> str:
    """As QGIS takes it from an answer."""
    return answer[1]["content-disposition"].split("filename=")[1]


def test_list_has_the_same_line(plain: Server, ours: Server) -> None:
    """Others of our cluster are left out."""
    (own,) = (row for row in ours.json("/v1/calc/list") if row["id"] == ours.job_id)

    (theirs,) = (row for row in plain.json("/v1/calc/list") if row["id"] == plain.job_id)
    assert json.dumps(without_own(own)) == json.dumps(without_own(theirs))


@pytest.mark.parametrize("path", ["/v1/engine_version", "/v1/engine_latest_version"])
def test_texts_are_the_same(plain: Server, ours: Server, path: str) -> None:
    """To the byte."""
    assert ours.get(path)[2] == plain.get(path)[2]


def test_log_has_the_same_shape(plain: Server, ours: Server) -> None:
    """Time, level, process, message; slices mean the same."""
    theirs, own = plain.json("/v1/calc/N/log/0:5"), ours.json("/v1/calc/N/log/0:5")

    assert [len(row) for row in own] == [len(row) for row in theirs] == [4] * 5
    pattern = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d\d")
    assert all(pattern.fullmatch(row[0]) for row in (*own, *theirs))
    assert ours.json("/v1/calc/N/log/2:4") == own[2:4]
    assert plain.json("/v1/calc/N/log/2:4") == theirs[2:4]


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
