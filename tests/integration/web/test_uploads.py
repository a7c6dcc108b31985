"""What people send: what is refused, and that nothing is left of it. There is no agent here."""

from __future__ import annotations

import getpass
import io
import os
import socket
import stat
import struct
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.services.web.uploads.inputs import FOLDER, Inputs
from quakegrid.settings.config import Settings
from tests.integration.web.conftest import Answer, Web
from tests.integration.web.sending import archive, multipart
from tests.integration.web.test_rows import make_job

JOB = "[general]\ndescription = small\ncalculation_mode = classical\n"
RUN, VALIDATE = "/v1/calc/run", "/v1/calc/validate_zip"


def send(web: Web, path: str, content: bytes, name: str = "job.zip", **fields: str) -> Answer:
    """Send one file."""
    body, headers = multipart(fields, [("archive", name, content)])
    return web.post(path, body, **{key.replace("-", "_"): value for key, value in headers.items()})


def send_files(web: Web, files: Mapping[str, str]) -> Answer:
    """Send many files."""
    body, headers = multipart({}, [("archive", name, text.encode()) for name, text in files.items()])
    return web.post(RUN, body, Content_Type=headers["Content-Type"])


def left(web: Web) -> list[str]:
    """What lies in folders of inputs."""
    root = Inputs(web.settings, getpass.getuser()).root
    return [str(path.relative_to(root)) for path in root.rglob("*")] if root.exists() else []


def with_link() -> bytes:
    """An archive with a symbolic link."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as made:
        made.writestr("job.ini", JOB)
        link = zipfile.ZipInfo("exposure.xml")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(link, "/etc/passwd")
    return target.getvalue()


def that_lies(size: int) -> bytes:
    """An archive whose file is larger than its directory says."""
    made = bytearray(archive({"job.ini": JOB, "big.bin": os.urandom(100_000)}))
    at = made.rindex(b"PK\x01\x02")
    struct.pack_into("<I", made, at + 24, size)
    return bytes(made)


REFUSED = {
    "no archive": (b"this is no archive", "cannot be unpacked"),
    "no job file": (archive({"a.xml": "<a/>"}), "no .ini files"),
    "leads out": (archive({"job.ini": JOB, "../x": "1"}), "leads out"),
    "absolute": (archive({"job.ini": JOB, "/etc/x": "1"}), "absolute"),
    "link": (with_link(), "a link"),
    "bomb": (archive({"job.ini": JOB, "a.bin": bytes(50 << 20)}), "times larger"),
    "bomb inside": (
        archive({"job.ini": JOB, "a.zip": archive({"a.bin": bytes(50 << 20)})}),
        "times larger",
    ),
    "link inside": (archive({"job.ini": JOB, "a.zip": with_link()}), "a link"),
    "many": (archive({f"{number}": "" for number in range(10_002)}), "more than 10000 files"),
    "lies": (that_lies(10), "cannot be unpacked"),
    "file and folder": (archive({"job.ini": JOB, "a": "1", "a/b": "1"}), "cannot be written"),
    "reads elsewhere": (
        archive({"job.ini": JOB + "site_model_file = ../../../../etc/passwd\n"}),
        "leads out of the upload",
    ),
    "reads an address": (archive({"job.ini": JOB + "site_model_file = http://x/y\n"}), "is an address"),
}


def test_archives_that_are_not_taken(web: Web) -> None:
    """It is said why, no calculation is made, and nothing stays on the disk."""
    for what, (content, reason) in REFUSED.items():
        answer = send(web, RUN, content)
        assert answer.status == 400, what
        assert answer.json.keys() == {"error", "traceback", "job_id"}
        assert reason in answer.json["error"]
        assert left(web) == []
        verdict = send(web, VALIDATE, content)
        assert (verdict.status, verdict.json["valid"]) == (200, False)
        assert reason in verdict.json["error_msg"]
        assert left(web) == []
    assert web.get("/v1/calc/list").json == []


def test_files_that_are_not_taken(web: Web) -> None:
    """By their names, or for what the job file names."""
    assert "leads out" in send_files(web, {"job.ini": JOB, "../x": "1"}).json["error"]
    assert "absolute" in send_files(web, {"job.ini": JOB + "site_model_file = /x\n"}).json["error"]
    assert "cannot be written" in send_files(web, {"a": "1", "a/job.ini": JOB}).json["error"]
    assert "came twice" in send_files(web, {"job.ini": JOB, "./job.ini": JOB}).json["error"]
    assert left(web) == []


def test_without_an_agent_nothing_is_kept(web: Web) -> None:
    """It is said what is missing."""
    answer = send(web, RUN, archive({"job.ini": JOB}))

    assert answer.status == 503
    assert "no agent answers" in answer.json["error"]
    assert left(web) == []


FIELDS: list[tuple[dict[str, str], int, str]] = [
    ({"hazard_job_id": "x"}, 400, "hazard_job_id"),
    ({"hazard_job_id": "-1", "job_ini": "job.ini"}, 400, "hazard_job_id"),
    ({"hazard_job_id": "1" * 30}, 400, "hazard_job_id"),
    ({"hazard_job_id": "7"}, 400, "no risk.ini files"),
    ({"notify_to": "file:///etc/passwd"}, 400, "http"),
    ({"job_owner": "somebody"}, 403, "somebody"),
    ({"job_ini": "other.ini"}, 400, "no other.ini files"),
]


def test_fields_that_are_not_taken(web: Web) -> None:
    """It is said which."""
    for fields, status, reason in FIELDS:
        answer = send(web, RUN, archive({"job.ini": JOB}), **fields)
        assert answer.status == status
        assert reason in answer.json["error"]
        assert left(web) == []


PATHS = [
    ("", "no whole path"),
    ("job.ini", "no whole path"),
    ("/etc/passwd", "ends in .ini"),
    ("/nowhere/job.ini", "no such file"),
    ("http://127.0.0.1/job.ini", "an address"),
    ("/etc", "no such file"),
    ("/dev/null", "no such file"),
]


def test_paths_that_are_not_taken(web: Web) -> None:
    """Without a word of the file."""
    kind = "application/x-www-form-urlencoded"
    for path, reason in PATHS:
        for name in ("run_ini", "validate_ini"):
            answer = web.post(f"/v1/calc/{name}", f"job_ini={path}".encode(), Content_Type=kind)
            assert answer.status == 400
            assert reason in answer.json["error"]
        asked = web.get(f"/v1/calc/jobs_from_inis?ini={path}")
        assert (asked.status, asked.json["success"]) == (400, [])
    assert left(web) == []


def test_large_upload_is_refused_before_it_comes(web: Web) -> None:
    """By what is announced; the sender may be told before it has sent a byte."""
    with socket.create_connection(("127.0.0.1", web.settings.web_port), 30) as connection:
        begin_s = time.monotonic()
        connection.sendall(
            f"POST {RUN} HTTP/1.1\r\nHost: localhost:{web.settings.web_port}\r\nExpect: 100-continue\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {2 << 30}\r\n\r\n".encode()
        )
        said = connection.recv(1000)

    assert said.startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - begin_s < 10
    assert left(web) == []


def test_upload_takes_no_memory(web: Web) -> None:
    """64 MB go to the disk as they come."""
    content = archive({"job.ini": JOB})
    before = most_memory_kib(web)
    body, headers = multipart(
        {}, [("archive", "big.bin", os.urandom(1 << 20) * 64), ("archive", "job.zip", content)]
    )

    answer = web.post(RUN, body, Content_Type=headers["Content-Type"])

    assert answer.status == 503  # no agent
    assert most_memory_kib(web) - before < 24 << 10
    assert left(web) == []


def most_memory_kib(web: Web) -> int:
    """The most that the service had in use."""
    assert web.service.process is not None
    lines = Path(f"/proc/{web.service.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


BROKEN = [
    ("text/plain", b"hello"),
    ("multipart/form-data", b"hello"),
    ("multipart/form-data; boundary=x", b"hello"),
    ("multipart/form-data; boundary=x", b"--x\r\n\r\nhello\r\n--x--\r\n"),
    ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nhel'),
    ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 200)),
    ("application/x-www-form-urlencoded", b"\xff=1"),
]


def test_broken_forms_are_refused(web: Web) -> None:
    """In words."""
    for kind, body in BROKEN:
        for path in (RUN, VALIDATE, "/v1/calc/run_ini", "/v1/calc/validate_ini", "/v1/valid/"):
            answer = web.post(path, body, Content_Type=kind)
            assert answer.status == 400, (path, answer.body)
    assert left(web) == []


def test_page_of_another_site_starts_nothing(web: Web) -> None:
    """A form there could be sent in a person's name."""
    body, headers = multipart({}, [("archive", "job.zip", archive({"job.ini": JOB}))])
    kind = headers["Content-Type"]

    assert web.post(RUN, body, Content_Type=kind, Origin="http://evil.example").status == 403
    assert web.post(RUN, body, Content_Type=kind, Sec_Fetch_Site="cross-site").status == 403
    assert web.post(RUN, body, Content_Type=kind, Host="evil.example").status == 403


def test_person_without_room_is_told(settings: Settings, web: Web, client: DbClient) -> None:
    """Kept inputs of others do not count."""
    job_id = make_job(client, "runs")
    path = settings.state_dir / "openquake.cfg"
    path.write_text(path.read_text().replace("[web]\n", "[web]\ninputs_quota = 50K\n"))
    web.service.stop()
    web.service.start()
    inputs = Inputs(settings, getpass.getuser())
    folder = inputs.new_folder()
    (folder / "big.bin").write_bytes(bytes(40_000))
    inputs.keep(folder, "somebody", job_id)
    content = os.urandom(20_000)
    assert "no .ini files" in send(web, RUN, archive({"x": content})).json["error"]
    inputs.keep(folder, getpass.getuser(), job_id)

    answer = send(web, RUN, archive({"x": content}))

    assert answer.status == 400
    assert "inputs_quota" in answer.json["error"]


def test_folder_of_others_is_not_used(web: Web) -> None:
    """A link in its place is refused, with a line in the log."""
    root = Inputs(web.settings, getpass.getuser()).root
    root.parent.mkdir(parents=True)
    elsewhere = web.settings.state_dir / "elsewhere"
    elsewhere.mkdir()
    root.symlink_to(elsewhere)

    answer = send(web, RUN, archive({"job.ini": JOB}))

    assert root.name == FOLDER
    assert answer.status == 500
    assert "belongs to another user" in answer.json["error"]
    assert list(elsewhere.iterdir()) == []
