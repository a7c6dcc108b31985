"""The engine's own web server and ours, each with the same calculation, and requests to them."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quakegrid import testing
from tests.engine.plain_web import ROUTES
from tests.integration.web.sending import multipart
from tests.support.clusters import Cluster
from tests.support.processes import free_port

CASE = "classical/case_01"
SCRIPT = Path(__file__).with_name("plain_web.py")
TIMEOUT_S = 120


@dataclass(frozen=True)
class Server:
    """A web server, the calculation that it knows, and the patterns of its addresses if it tells them."""

    address: str
    job_id: int
    routes: tuple[str, ...] = ()

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; `N` in the path is the calculation."""
        return self._ask(urllib.request.Request(self._url(path)))

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """The same for any method; redirections are not followed."""
        with contextlib.closing(http.client.HTTPConnection(self.address, timeout=TIMEOUT_S)) as connection:
            connection.request(method, path.replace("/N", f"/{self.job_id}", 1), body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()

    def post(
        self, path: str, fields: Mapping[str, str] | None = None, *files: tuple[str, bytes]
    ) -> tuple[int, dict[str, str], bytes]:
        """The same for a form with fields and files of the field `archive`."""
        body, headers = multipart(fields or {}, [("archive", *file) for file in files])
        return self._ask(urllib.request.Request(self._url(path), body, headers, method="POST"))

    def _url(self, path: str) -> str:
        return f"http://{self.address}{path.replace('/N', f'/{self.job_id}', 1)}"

    def _ask(self, request: urllib.request.Request) -> tuple[int, dict[str, str], bytes]:
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as exc:
            return exc.code, {}, exc.read()

    def json(self, path: str) -> Any:
        """The value at a path."""
        return json.loads(self.get(path)[2])


@contextmanager
def running_plain_server(root: Path) -> Iterator[Server]:
    """The plain engine's server, with one calculation."""
    job_ini = testing.copy_engine_case(CASE, root / "case") / "job.ini"
    address = f"127.0.0.1:{free_port()}"
    environ = testing.isolated_environ(root) | {"OQ_DISTRIBUTE": "no"}
    log = root / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, SCRIPT, job_ini, address],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        server, end_s = Server(address, 1), time.monotonic() + TIMEOUT_S
        while True:
            try:
                server.get("/v1/engine_version")
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end_s, log.read_text()
                time.sleep(0.05)
        (said,) = (line for line in log.read_text().splitlines() if line.startswith(ROUTES))
        yield dataclasses.replace(server, routes=tuple(json.loads(said.removeprefix(ROUTES))))
    finally:
        process.kill()
        process.wait()


def our_server(cluster: Cluster, root: Path) -> Server:
    """Our server, with the same calculation."""
    job_ini = testing.copy_engine_case(CASE, root / "case") / "job.ini"
    (outcome,) = cluster.json("run", job_ini)["jobs"]
    (web,) = (each for each in cluster.json("status")["services"] if each["service"] == "web")
    return Server(web["address"], outcome["job_id"])
