"""Requests to the web service, right ones and changed ones; each depends on its number only."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from tests.fuzz import values
from tests.integration.web.sending import archive, multipart

JOB = "[general]\ndescription = fuzz\ncalculation_mode = classical\n"
READ = (
    "/", "/calculations", "/calculations/{n}", "/calculations/{n}/pictures.json", "/cluster", "/docs",
    "/calculations/{n}/pictures/{t}.json", "/calculations/{n}/parameters.json",
    "/calculations/{n}/report.json", "/openapi.json", "/static/{p}", "/health", "/engine/{n}/outputs",
    "/v1/engine_version", "/v1/calc/list?{q}", "/v1/calc/{n}", "/v1/calc/{n}/status", "/v1/calc/{n}/log/size",
    "/v1/calc/{n}/log/{l}", "/v1/calc/{n}/traceback", "/v1/calc/{n}/results", "/v1/calc/result/{n}?{q}",
    "/v1/calc/{n}/extract/{p}?{q}", "/v1/calc/{n}/datastore", "/v1/calc/{n}/job_zip",
    "/v1/calc/{n}/download_png/{p}", "/v1/calc/jobs_from_inis?ini={p}", "/v1/calc/list_tags",
    "/v1/calc/get_preferred_job_for_tag/{t}", "/v1/calc/{n}/add_tag/{t}", "/v1/calc/create_tag/{t}",
    "/v1/calc/delete_tag/{t}", "/v1/calc/{n}/remove_tag/{t}", "/live/jobs.json", "/live/fleet.json",
    "/live/events.json", "/calculations/{n}/compare/{n}", "/calculations/{n}/compare/{n}.json", "/login?{q}",
    "/calculations/{n}/tasks", "/calculations/{n}/tasks.json?from={n}&to={n}", "/accounts/me.json",
    "/accounts/login/?next={p}", "/cluster/people.json", "/cluster/rights.json", "/examination",
    "/calculations/{n}/inputs.json",
)  # fmt: skip
WRITE = (
    "/v1/calc/run", "/v1/calc/run", "/v1/calc/run", "/v1/calc/run_ini", "/v1/calc/validate_zip",
    "/v1/calc/validate_ini", "/v1/valid/", "/v1/on_same_fs", "/v1/calc/{n}/abort", "/v1/calc/{n}/share",
    "/v1/calc/{n}/unshare", "/v1/calc/{n}/remove", "/accounts/login/", "/accounts/ajax_login/",
    "/accounts/ajax_logout/", "/accounts/logout/", "/v1/inputs/missing", "/v1/inputs/{h}?offset={n}&size={n}",
    "/v1/inputs/{h}?offset=0&size=3", "/cluster/nodes/{t}/cores", "/cluster/nodes/{t}/drain",
)  # fmt: skip
# Files that are sent alone, and their hashes: few, so that what is kept of them has a bound.
PIECES = (b"a,b", b"xyz", b"123")
HASHES = tuple(hashlib.sha256(each).hexdigest() for each in PIECES)
NUMBERS = ("1", "2", "0", "-1", "99999", "9" * 18, "9" * 40, "1.5", "x", "%00", "1;2", "٣")
LINES = ("0:", "0:10", ":", "5:2", "-1:2", "x:y", "0:" + "9" * 30, "1:1:1")


@dataclass(frozen=True)
class Places:
    """Paths that nobody may read: they lead out, or are of no interest."""

    secret: str

    def path(self, chance: random.Random) -> str:
        """A path, right or not."""
        leads = (
            "..",
            "../" * 12,
            "%2e%2e/" * 9,
            "..%2f" * 9,
            "....//" * 6,
            "C:\\",
            "\\\\host\\",
            "\uff0e\uff0e/" * 3,
            "a\r\nSet-Cookie: a=b/",
            "n" * 300 + "/",
            "\\..\\" * 5,
            "/",
            "~",
            "file://",
        )
        found = chance.choice(
            (self.secret, self.secret.lstrip("/"), "oqparam", "hcurves", "style.css", "job.ini")
        )
        return chance.choice((*leads, "", "", "")) + found


def request(number: int, port: int, places: Places) -> bytes:
    """The request with a number."""
    chance = random.Random(number)
    is_writing = chance.random() < 0.4
    target = _filled(chance, chance.choice(WRITE if is_writing else READ), places)
    method = "PUT" if target.startswith("/v1/inputs/") and "?" in target else "POST" if is_writing else "GET"
    body, kind = _body(chance, target, places) if is_writing else (b"", "")
    if chance.random() < 0.05:
        method = chance.choice(("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "run"))
    lines = [f"{method} {target} HTTP/1.1", f"Host: localhost:{port}", "Connection: close"]
    if is_writing:
        length = len(body) if chance.random() > 0.04 else chance.choice((0, 5, 1 << 20, 2 << 30, -1))
        lines += [f"Content-Length: {length}", f"Content-Type: {kind}"]
    if chance.random() < 0.1:
        lines.append(chance.choice(_HEADERS))
    head = "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n"
    if chance.random() < 0.08:
        head = values.mutate(chance, head)
    return head + body


_HEADERS = (
    "Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Range: bytes=0-", "Range: bytes=-1-x",
    "Range: bytes=99999999999999999999-", "Transfer-Encoding: chunked", "Last-Event-ID: -1", "Cookie: a=b",
    "Expect: 100-continue", "X-Forwarded-For: 1.2.3.4", "Content-Encoding: gzip", "Accept: \x01",
    "Range: bytes=" + ",".join(f"{2 * each}-{2 * each}" for each in range(3000)), "Range: bytes=0-0,5-9,-1",
    "If-None-Match: *", "If-Range: x", "Content-Length: 3",
)  # fmt: skip


def _filled(chance: random.Random, template: str, places: Places) -> str:
    names = ("limit", "offset", "kind", "export_type", "site_id", "order_by", "start_time", "x")
    query = chance.choice(names)
    fillings: dict[str, Callable[[], str]] = {
        "{h}": lambda: chance.choice(
            (*HASHES, *HASHES, "0" * 64, "x" * 64, quote(places.path(chance), safe=""))
        ),
        "{n}": lambda: chance.choice(NUMBERS) if chance.random() < 0.4 else "1",
        "{l}": lambda: chance.choice(LINES),
        "{t}": lambda: quote(values.text(chance)[:60], safe="") or "t",
        "{p}": lambda: quote(places.path(chance), safe="/%.\\"),
        "{q}": lambda: f"{query}={quote(values.text(chance)[:60], safe='')}",
    }
    for name, fill in fillings.items():
        while name in template:
            template = template.replace(name, fill(), 1)
    return template


def _body(chance: random.Random, target: str, places: Places) -> tuple[bytes, str]:
    """A body and its type: a form with fields and files, a document or a piece, changed or not."""
    if target.startswith(("/v1/inputs/", "/cluster/")) or chance.random() < 0.1:
        document = json.dumps(_document(chance, places)).encode()
        sent = chance.choice((document, document, *PIECES))
        return (values.mutate(chance, sent) if chance.random() < 0.3 else sent), "application/json"
    fields = {
        name: fill
        for name, fill in {
            "job_ini": places.path(chance)
            if "ini" in target
            else chance.choice(("job.ini", ".ini", "x", "")),
            "hazard_job_id": chance.choice(NUMBERS),
            "notify_to": chance.choice(
                ("http://127.0.0.1:9/", "file:///etc/passwd", values.text(chance)[:50])
            ),
            "job_owner": values.text(chance)[:20],
            "xml_text": chance.choice(
                ("<a/>", "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>")
            ),
            "filename": places.path(chance),
            "username": chance.choice(("anna", "root", "", values.text(chance)[:300])),
            "password": chance.choice(("x", values.text(chance)[:300])),
            "next": places.path(chance),
            "checksum": "1",
        }.items()
        if chance.random() < 0.5
    }
    if chance.random() < 0.25:
        body = "&".join(f"{name}={quote(text, safe='/', errors='replace')}" for name, text in fields.items())
        return body.encode(), "application/x-www-form-urlencoded"
    content, headers = multipart(
        {name: _plain(text) for name, text in fields.items()}, _files(chance, places)
    )
    if chance.random() < 0.25:
        content = values.mutate(chance, content)
    kind = headers["Content-Type"]
    return content, kind if chance.random() > 0.05 else chance.choice(
        ("", "text/plain", "multipart/form-data; boundary=")
    )


def _document(chance: random.Random, places: Places) -> object:
    """A list of files, a manifest of a calculation, or an order to a node; right or not."""
    file = {
        "name": chance.choice(("job.ini", places.path(chance))),
        "size": chance.choice((3, 0, -1, 1 << 70, "3", None)),
        "sha256": chance.choice((*HASHES, "x", None)),
    }
    manifest = {
        "files": [file],
        "job_file": "job.ini",
        "notify": [values.text(chance)[:20]],
        "params": {"x": "y"},
        "request_id": values.text(chance)[:40],
        "weight": chance.choice((1, -1, "x")),
    }
    files = {"files": [file] * chance.choice((1, 2, 50))}
    cores = {"core_count": chance.choice((1, -2, "x", 1 << 80))}
    return chance.choice((manifest, files, cores, [], None, values.text(chance)[:50], [[[[]]]] * 9))


def _files(chance: random.Random, places: Places) -> list[tuple[str, str, bytes]]:
    field = "archive" if chance.random() < 0.9 else _plain(values.text(chance)[:10])
    if chance.random() < 0.6:
        content = archive({_plain(name): text for name, text in _model(chance, places).items()})
        if chance.random() < 0.5:
            content = values.mutate(chance, content)
        return [(field, "job.zip", content)]
    return [
        (field, _plain(name), text.encode("utf-8", "replace"))
        for name, text in _model(chance, places).items()
    ]


def _model(chance: random.Random, places: Places) -> dict[str, str]:
    """Names and texts of a calculation's files."""
    key = chance.choice(
        (
            "site_model_file",
            "exposure_file",
            "source_model_logic_tree_file",
            "gsim_logic_tree_file",
            "gmfs_file",
            "structural_vulnerability_file",
            "station_data_file",
            "reqv_hdf5",
            "inputs",
            "export_dir",
            "x",
        )
    )
    found = {"job.ini": JOB + (f"{key} = {places.path(chance)}\n" if chance.random() < 0.7 else "")}
    for _ in range(chance.choice((0, 1, 1, 3))):
        found[places.path(chance) if chance.random() < 0.4 else f"f{chance.random()}.xml"] = values.text(
            chance
        )
    return found


def _plain(text: str) -> str:
    """A text that can be encoded, and does not end a header."""
    return text.encode("utf-8", "replace").decode().replace('"', "'").replace("\r", " ").replace("\n", " ")
