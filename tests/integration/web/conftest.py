"""A web service beside a dbserver, and requests to it."""

from __future__ import annotations

import configparser
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from quakegrid.settings import config
from quakegrid.settings.config import Settings
from tests.support.browsers import chromium
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service, free_port, make_state

TIMEOUT_S = 30


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body)


class Stream:
    """Server-sent events, one after the other."""

    def __init__(self, port: int, path: str, **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._connection.request(
            "GET", path, headers={name.replace("_", "-"): headers[name] for name in headers}
        )
        self.response = self._connection.getresponse()

    def next(self) -> tuple[str, str, Any]:
        """Kind, id and value of the next event."""
        fields: dict[str, str] = {}
        while line := self.response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                return fields["event"], fields["id"], json.loads(fields["data"])
            else:
                fields = {}
        raise EOFError(fields)

    def wait_for(self, kind: str) -> Any:
        """The value of the next event of this kind."""
        while (event := self.next())[0] != kind:
            pass
        return event[2]

    def close(self) -> None:
        """Leave."""
        self._connection.close()


@dataclass(frozen=True)
class Web:
    """A running web service."""

    settings: Settings
    service: Service

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; header names have underscores."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.web_port, timeout=TIMEOUT_S)
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, given)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        """What is at a path."""
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, body: bytes = b"", **headers: str) -> Answer:
        """What a path does."""
        return self.ask("POST", path, body, **headers)

    def stream(self, path: str, **headers: str) -> Stream:
        """Events at a path."""
        return Stream(self.settings.web_port, path, **headers)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a port for the web."""
    return make_settings(tmp_path)


def make_settings(tmp_path: Path) -> Settings:
    """Settings with a port for the web, below an empty folder."""
    made = make_state(tmp_path)
    path = made.state_dir / config.CONFIG_NAME
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(path)
    parser["web"] = {"port": str(free_port())}
    parser["broker"] = {"port": str(free_port())}
    parser["directory"] = {"shared_dir": str(tmp_path / "shared")}
    with path.open("w") as file:
        parser.write(file)
    (tmp_path / "shared").mkdir()
    return config.load_settings(made.state_dir, {"OQ_CONFIG_FILE": str(path)})


@pytest.fixture
def web(dbserver: LocalDbServer) -> Iterator[Web]:
    """A web service whose dbserver runs; there is no broker."""
    service = Service(dbserver.settings, "web")
    try:
        service.start()
        yield Web(dbserver.settings, service)
    finally:
        service.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, without a window."""
    with chromium.running() as started:
        yield started


@pytest.fixture
def page(browser: Browser, web: Web) -> Iterator[Page]:
    """A page of the service, on which no script may fail."""
    with chromium.opened(browser, f"http://127.0.0.1:{web.settings.web_port}") as made:
        yield made
