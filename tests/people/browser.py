"""Requests to the web service as somebody of a machine: the kernel says who asks."""

from __future__ import annotations

import base64
import io
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.people.cluster import PeopleCluster

BOUNDARY = "b" * 20
TIMEOUT_S = 120.0
# Runs as the account: sends what it reads, one after the other, and prints what comes back.
_ASK = """
import base64, http.client, json, sys
answers = []
for asked in json.load(sys.stdin):
    connection = http.client.HTTPConnection("127.0.0.1", asked["port"], timeout=120)
    body = base64.b64decode(asked["body"])
    connection.request(asked["method"], asked["path"], body, asked["headers"])
    response = connection.getresponse()
    content = base64.b64encode(response.read()).decode()
    answers.append([response.status, dict(response.getheaders()), content])
    connection.close()
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)

    @property
    def text(self) -> str:
        """The body as words."""
        return self.body.decode()


class Browser:
    """Asks the web service of a cluster.

    Args:
        cluster: whose web service runs.
    """

    def __init__(self, cluster: PeopleCluster) -> None:
        self._cluster = cluster
        self.port = cluster.settings.web_port

    def ask(self, who: str, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """One request; header names have underscores."""
        (answer,) = self._ask_all(who, [self._request(method, path, body, headers)])
        return answer

    def get_all(self, who: str, paths: Sequence[str], **headers: str) -> list[Answer]:
        """What is at several paths, one after the other."""
        return self._ask_all(who, [self._request("GET", path, b"", headers) for path in paths])

    def _request(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = base64.b64encode(body).decode()
        return {"port": self.port, "method": method, "path": path, "headers": given, "body": content}

    def _ask_all(self, who: str, requests: Sequence[dict[str, Any]]) -> list[Answer]:
        done = self._cluster.machine.run(
            who, sys.executable, "-c", _ASK, given=json.dumps(requests), timeout_s=TIMEOUT_S
        )
        assert done.returncode == 0, done.stderr
        return [
            Answer(status, headers, base64.b64decode(content))
            for status, headers, content in json.loads(done.stdout)
        ]

    def get(self, who: str, path: str, **headers: str) -> Answer:
        """What is at a path."""
        return self.ask(who, "GET", path, b"", **headers)

    def post(self, who: str, path: str) -> Answer:
        """What a path does."""
        return self.ask(who, "POST", path)

    def send(self, who: str, path: str, archive: bytes, **fields: str) -> Answer:
        """Send an archive and fields as a form."""
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        ]
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="archive"; filename="model.zip"\r\n\r\n'
        body = b"".join([*parts, head.encode(), archive, f"\r\n--{BOUNDARY}--\r\n".encode()])
        kind = f"multipart/form-data; boundary={BOUNDARY}"
        return self.ask(who, "POST", path, body, Content_Type=kind)


def packed(folder: Path) -> bytes:
    """The files of a folder as an archive."""
    with io.BytesIO() as made:
        with zipfile.ZipFile(made, "w") as archive:
            for path in folder.rglob("*"):
                if path.is_file():
                    archive.write(path, path.relative_to(folder))
        return made.getvalue()
