"""Requests that were changed at random: each is answered, faults name their cause, nothing leaks or stays."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.services.web.uploads.inputs import Inputs
from quakegrid.services.web.uploads.store import FOLDER
from tests.integration.web import mutations
from tests.integration.web.conftest import Web
from tests.integration.web.mutations import Places
from tests.integration.web.test_rows import make_job

SECRET = b"nobody but its owner reads this line"
SENDERS = 8
WAIT_S = 30.0
MOST_ANSWER_BYTES = 1 << 20
# Above what it has after the first requests; a leak would be larger.
MOST_GROWTH_KIB = 60 << 10
# What services of this test write by themselves.
OWN_FILES = (".log", ".sqlite3", ".sqlite3-wal", ".sqlite3-shm", ".json", ".lock")


def ask(port: int, content: bytes) -> bytes:
    """Send one request; what came back before the connection was closed."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as connection:
        with contextlib.suppress(OSError):  # it has had enough
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while (more := connection.recv(1 << 16)) and len(answer) < MOST_ANSWER_BYTES:
                answer += more
    return answer


def files_below(folder: Path) -> set[Path]:
    """All files but those that services write by themselves; folders may go meanwhile."""
    paths = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return {path for path in paths if path.is_file() and path.suffix not in OWN_FILES}


def open_files(pid: int) -> int:
    """How many files and connections a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory_kib(pid: int) -> int:
    """What a process has in use."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(450, id="some"),
        pytest.param(100_000, id="many", marks=[pytest.mark.full, pytest.mark.timeout(3600)]),
    ],
)
def test_changed_requests_do_no_harm(web: Web, client: DbClient, count: int, tmp_path: Path) -> None:
    """The same process answers all of them; each 500 has a line in the log that names its cause."""
    make_job(client, "runs", lines=3)
    secret = tmp_path / "secret.csv"
    secret.write_bytes(SECRET + b"\n1,2,3\n")
    places, port = Places(str(secret)), web.settings.web_port
    assert web.service.process is not None
    pid = web.service.process.pid
    before = files_below(tmp_path)
    with ThreadPoolExecutor(SENDERS) as senders:
        statuses: dict[bytes, int] = {}

        def send(number: int) -> None:
            answer = ask(port, mutations.request(number, port, places))
            assert SECRET not in answer, number
            status = answer[9:12]
            statuses[status] = statuses.get(status, 0) + 1

        list(senders.map(send, range(300)))
        memory, opened = memory_kib(pid), open_files(pid)
        list(senders.map(send, range(300, count)))

    log = (web.settings.state_dir / "web.log").read_text()
    assert statuses.get(b"500", 0) <= log.count("request_broke") + log.count("status=500"), log[-3000:]
    assert statuses[b"200"] > count / 20, statuses
    assert web.settings.authkey not in log
    assert web.service.process.poll() is None
    assert web.get("/health").status == 200
    assert memory_kib(pid) - memory < MOST_GROWTH_KIB
    assert _settled(lambda: open_files(pid), opened + 20)
    check_kept(files_below(tmp_path) - before)
    assert before <= files_below(tmp_path)
    root = Inputs(web.settings, getpass.getuser()).root
    # Who closed the connection is not waited for; what they sent goes when its form has been read.
    assert not root.exists() or _settled(lambda: len(list(root.iterdir())), 0)


def check_kept(paths: set[Path]) -> None:
    """What is kept of requests: files that were sent alone, by their hashes, and parts of such."""
    for path in paths:
        assert path.parent.parent.name == FOLDER, path
        assert re.fullmatch(r"[0-9a-f]{64}(\.part)?", path.name), path
        assert path.suffix or hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def _settled(count: object, most: int) -> bool:
    """Whether a number has come down, when connections are closed."""
    assert callable(count)
    end_s = time.monotonic() + WAIT_S
    while count() > most and time.monotonic() < end_s:
        time.sleep(0.01)
    return bool(count() <= most)
