"""Attacks on what takes names and bytes: each is refused, or does no harm; nothing outside is touched."""

from __future__ import annotations

import io
import socket
import stat
import time
import zipfile
from pathlib import Path

import pytest

from quakegrid.clients.dbserver.client import DbClient
from tests.integration.web.conftest import Web
from tests.integration.web.sending import archive
from tests.integration.web.test_fuzz import files_below
from tests.integration.web.test_rows import make_job
from tests.integration.web.test_slow_ends import datastore
from tests.integration.web.test_uploads import JOB, RUN, left, send, send_files

SECRET = "nobody but its owner reads this line"
# What the engine's job files have for files; a value may be one name, several, or names by kind.
FILE_KEYS = (
    "site_model_file", "exposure_file", "source_model_logic_tree_file", "gsim_logic_tree_file", "gmfs_file",
    "rupture_model_file", "structural_vulnerability_file", "structural_fragility_file", "source_model_file",
    "taxonomy_mapping_csv", "hazard_curves_file", "station_data_file", "sites_csv", "site_ctx_csv",
    "reqv_hdf5", "insurance_csv", "treaty_csv", "post_loss_amplification_csv", "delta_rates_file",
    "multi_peril_file", "shakemap_uri", "rupture_dict", "base_path", "inputs", "aggregate_by", "x",
)  # fmt: skip


def with_kind(kind: int) -> bytes:
    """An archive with something that is no plain file."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr("job.ini", JOB)
        odd = zipfile.ZipInfo("exposure.xml")
        odd.external_attr = (kind | 0o666) << 16
        made.writestr(odd, "/etc/passwd")
    return target.getvalue()


def twice(first: str, second: str) -> bytes:
    """An archive with two files whose names mean the same."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        for name in ("job.ini", first, second):
            made.NameToInfo.clear()  # it would warn of a name that comes twice
            made.writestr(zipfile.ZipInfo(name), JOB)
    return target.getvalue()


NAMES = (
    "../x", "a/../../x", "..\\x", "a\\..\\..\\x", "/x", "//host/x", "\\\\host\\x", "C:x", "C:\\x", "c:/x",
    "a\nb", "a\r\nSet-Cookie: a=b",
    "\x1b[2J", "a\u202eini.x", "a\u2028b", "n" * 256, "/".join("a" * 40),
)  # fmt: skip


def test_names_in_archives(web: Web) -> None:
    """Those that lead out, that no file system takes, or that would be read otherwise than they are."""
    for name in NAMES:
        answer = send(web, RUN, archive({"job.ini": JOB, name: "1"}))
        assert answer.status == 400, name
        assert answer.json["error"].isprintable()
    for kind in (stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
        assert "a link or a device" in send(web, RUN, with_kind(kind)).json["error"]
    for names in (("a/b", "a//b"), ("a/b", "./a/b"), ("a/b", "a\\b"), ("x", "x")):
        assert "twice" in send(web, RUN, twice(*names)).json["error"]
    assert left(web) == []


@pytest.mark.full
def test_names_that_only_look_bad_stay_inside(web: Web, tmp_path: Path) -> None:
    """Dots and slashes of other scripts are letters to the file system."""
    before = files_below(tmp_path)
    for name in ("\uff0e\uff0e\uff0fx", "\u2025/x", "..\u2215x", "%2e%2e%2fx", "....//x", "con.xml", "a. "):
        answer = send_files(web, {"job.ini": JOB, name: "1"})
        assert answer.status == 503, name  # there is no agent; until then it was taken
    assert left(web) == []
    assert files_below(tmp_path) == before


def test_each_parameter_that_takes_a_file(web: Web, tmp_path: Path) -> None:
    """None may lead out of the upload, however it is written; nothing of the file is told."""
    secret = tmp_path / "secret.csv"
    secret.write_text(SECRET)
    up = "../" * 12 + str(secret).lstrip("/")
    shapes = ("{}", "one.csv {}", "{{'structural': '{}'}}", '["{}"]', "\n  one.csv\n  {}", "x,{}")
    for number, key in enumerate(FILE_KEYS):
        for path in (str(secret), up, f"file://{secret}", f"http://127.0.0.1:{web.settings.web_port}/health"):
            value = shapes[number % len(shapes)].format(path)
            answer = send_files(web, {"job.ini": f"{JOB}{key} = {value}\n"})
            assert answer.status == 400, (key, value)
            assert key in answer.json["error"]
            assert SECRET not in answer.body.decode()
    assert left(web) == []


def test_names_do_not_get_into_headers(web: Web, client: DbClient, tmp_path: Path) -> None:
    """Of what people name, nothing is sent as a header."""
    make_job(client, "a\r\nSet-Cookie: a=b")
    for path in ("/v1/calc/create_tag/a%0d%0aSet-Cookie:%20a=b", "/v1/calc/1/add_tag/a%0d%0aX:%20y",
                 "/calculations%0d%0aX:%20y", "/v1/calc/list/%0d%0aSet-Cookie:%20a=b",
                 "/v1/calc/1/extract/a%0d%0aX:y",
                 "//evil.example/", "/\\evil.example/", "/v1/calc//evil.example/"):  # fmt: skip
        answer = web.get(path)
        assert not {"set-cookie", "x"} & answer.headers.keys(), path
        assert "evil.example" not in answer.headers.get("location", ""), path
    assert tmp_path.exists()


def test_ranges_are_bounded(web: Web, client: DbClient, tmp_path: Path) -> None:
    """Thousands of parts of one file are not sent one by one."""
    path = datastore(client, tmp_path, 1 << 20)
    many = ",".join(f"{2 * number}-{2 * number}" for number in range(5000))
    begin_s = time.monotonic()

    answers = [
        web.get(path, Range=f"bytes={text}")
        for text in (many, "0-0,5-9", "-5", "9-0", "x", "0-99999999999999999999", "99999999-", "-", ",")
    ]

    assert [answer.status for answer in answers[:3]] == [200, 206, 206]
    assert len(answers[0].body) == 1 << 20
    assert all(answer.status in (200, 206, 400, 416) for answer in answers), [each.status for each in answers]
    assert time.monotonic() - begin_s < 30


@pytest.mark.full
def test_many_answers_of_one_connection_are_not_kept(web: Web) -> None:
    """Requests that come before the answers are answered one after the other, or the connection is closed."""
    host = f"Host: localhost:{web.settings.web_port}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", web.settings.web_port), 30) as connection:
        connection.sendall(f"GET /health HTTP/1.1\r\n{host}".encode() * 100)
        said = b""
        while said.count(b"200 OK") < 100 and (more := connection.recv(1 << 16)):
            said += more

    assert said.count(b"HTTP/1.1 200 OK") == 100
