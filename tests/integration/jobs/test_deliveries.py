"""Commands and POSTs that tell the end of a job, with a real shell and a real server."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid.notify import delivery
from tests.support.processes import free_port

DOCUMENT = b'{"id": 7}\n'


class Server(http.server.ThreadingHTTPServer):
    """Answers with these codes, one after the other; keeps what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.codes: list[int] = []
        self.got: list[tuple[str, str, bytes]] = []
        self.logins: list[str] = []

    @property
    def url(self) -> str:
        """Where to post."""
        return f"http://127.0.0.1:{self.server_port}/hook"


class Handler(http.server.BaseHTTPRequestHandler):
    """Of `Server`."""

    server: Server

    def do_POST(self) -> None:
        """Keep it, and answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.logins.append(str(self.headers["Authorization"]))
        self.server.got.append((self.path, str(self.headers["Content-Type"]), body))
        self.send_response(self.server.codes.pop(0))
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server for hooks."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_url_may_have_a_name_and_a_password(server: Server) -> None:
    """As in those that `requests` and curl take; nothing of them is told."""
    server.codes = [200, 404]
    url = server.url.replace("://", "://bot:Zt5hPw@")

    assert delivery.deliver(url, DOCUMENT, {}) == ""
    failure = delivery.deliver(url, DOCUMENT, {})

    assert server.logins == ["Basic Ym90Olp0NWhQdw=="] * 2
    assert failure.endswith("HTTP 404 Not Found")
    assert "Zt5hPw" not in failure


def test_command_gets_the_document_and_names(tmp_path: Path) -> None:
    """On stdin, and in its environment."""
    out = tmp_path / "out"

    failure = delivery.deliver(
        f'cat > {out}; echo "$QUAKEGRID_JOB_ID" >> {out}', DOCUMENT, {"QUAKEGRID_JOB_ID": "7"}
    )

    assert failure == ""
    assert out.read_bytes() == DOCUMENT + b"7\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("echo no mail >&2; exit 3", "it ended with exit code 3: no mail"),
        ("exit 1", "it ended with exit code 1"),
        ("kill -9 $$", "it was killed by signal 9"),
        ("/no/such/program", "it ended with exit code 127: "),
    ],
)
def test_command_that_fails_says_how(command: str, said: str) -> None:
    """With its last words."""
    assert said in delivery.deliver(command, DOCUMENT, {})


def test_command_that_does_not_read_is_no_failure() -> None:
    """Many need to know no more than that the job has ended."""
    assert delivery.run("exec 0<&-; exit 0", b"x" * (1 << 20), {}) == ""


def test_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """The child holds the pipe, too."""
    failure = delivery.run(f"sleep 1000 & echo $! > {tmp_path}/pid; wait", DOCUMENT, {}, timeout_s=1.0)

    assert failure == "it did not end within 1 s and was killed"
    pid = int((tmp_path / "pid").read_text())
    end_s = time.monotonic() + 30
    while is_alive(pid):
        assert time.monotonic() < end_s
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def test_post_carries_the_document(server: Server) -> None:
    """As JSON."""
    server.codes = [204]

    assert delivery.deliver(server.url, DOCUMENT, {}) == ""
    assert server.got == [("/hook", "application/json", DOCUMENT)]


def test_post_is_tried_again_where_that_may_help(server: Server) -> None:
    """Twice, after pauses."""
    pauses: list[float] = []
    server.codes = [503, 429, 200]

    assert delivery.post(server.url, DOCUMENT, pauses.append) == ""
    assert pauses == list(delivery.PAUSES_S)

    server.codes = [500, 500, 500]
    assert delivery.post(server.url, DOCUMENT, pauses.append).startswith("HTTP 500")


@pytest.mark.parametrize("code", [302, 307, 403])
def test_post_that_is_refused_or_sent_elsewhere_has_failed(server: Server, code: int) -> None:
    """At once: the document goes where the person said and nowhere else."""
    server.codes = [code]

    assert f"HTTP {code}" in delivery.deliver(server.url, DOCUMENT, {})
    assert len(server.got) == 1


def test_post_to_nobody_has_failed() -> None:
    """With the reason; the path of the URL, which may be a secret, is not told."""
    url = f"http://127.0.0.1:{free_port()}/SECRET"

    failure = delivery.post(url, DOCUMENT, lambda _pause: None)

    assert "refused" in failure
    assert "SECRET" not in failure
