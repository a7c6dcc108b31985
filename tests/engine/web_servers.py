"""The engine's own web server and ours, each with the same calculation, and requests to them."""

from __future__ import annotations

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
from tests.integration.web.sending import multipart
from tests.support.clusters import Cluster
from tests.support.processes import free_port

CASE = "classical/case_01"
SCRIPT = Path(__file__).with_name("plain_web.py")
TIMEOUT_S = 120


@dataclass(frozen=True)
class Server:
    """A web server and the calculation that it knows."""

    address: str
    job_id: int

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; `N` in the path is the calculation."""
        return self._ask(urllib.request.Request(self._url(path)))

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
        yield server
    finally:
        process.kill()
        process.wait()


def our_server(cluster: Cluster, root: Path) -> Server:
    """Our server, with the same calculation."""
    job_ini = testing.copy_engine_case(CASE, root / "case") / "job.ini"
    (outcome,) = cluster.json("run", job_ini)["jobs"]
    (web,) = (each for each in cluster.json("status")["services"] if each["service"] == "web")
    return Server(web["address"], outcome["job_id"])
