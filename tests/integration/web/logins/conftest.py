"""A web service for a team, over TLS: requests are from anywhere, as a proxy tells it.

The proxy is this process, so nothing leaves this machine, and the kernel's word does not count.
"""

from __future__ import annotations

import datetime
import os
import pwd
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from quakegrid.access.principals import PrincipalRole
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.people import PeopleClient
from quakegrid.jobs.states import JobState
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service, free_port, make_state

TIMEOUT_S = 60.0
DAY = datetime.timedelta(days=1)
PASSWORD = "correct horse battery"
ROLES = {
    "anna": PrincipalRole.USER,
    "ben": PrincipalRole.USER,
    "otto": PrincipalRole.OPERATOR,
    "ada": PrincipalRole.ADMIN,
}
HERE = "203.0.113.7"


@dataclass
class Team:
    """A running web service with a few people, and requests to it."""

    settings: Settings
    service: Service
    client: DbClient
    trust: ssl.SSLContext
    jobs: dict[str, int] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where it is."""
        return f"https://localhost:{self.settings.web_port}"

    @property
    def people(self) -> PeopleClient:
        """Passwords and credentials, as who has the authkey."""
        return PeopleClient(self.client)

    def ask(self, token: str = "", source: str = HERE, **headers: str) -> httpx.Client:
        """Requests of somebody from elsewhere; header names have underscores."""
        given = {"X-Forwarded-For": source, "X-Forwarded-Proto": "https"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            given["Authorization"] = f"Bearer {token}"
        return httpx.Client(base_url=self.address, verify=self.trust, headers=given, timeout=TIMEOUT_S)

    @contextmanager
    def log_in(self, name: str, source: str = HERE) -> Iterator[httpx.Client]:
        """Requests of a person who has logged in, as QGIS does it."""
        with self.ask(source=source) as web:
            answer = web.post("/accounts/ajax_login/", data={"username": name, "password": PASSWORD})
            assert (answer.status_code, answer.text) == (200, "Successful login")
            yield web

    def log(self) -> str:
        """What the web service has logged."""
        return (self.settings.state_dir / "web.log").read_text()


def make_certificate(settings: Settings, folder: Path) -> ssl.SSLContext:
    """Files with a certificate of a site; returns what trusts it."""
    now_time = datetime.datetime.now(datetime.UTC)
    authority = credentials.authority(settings.authkey)
    made = authority.certify_web(["localhost", "127.0.0.1"], now_time, now_time + DAY)
    (folder / "web.pem").write_bytes(made.certificate_pem)
    (folder / "web.key").write_bytes(made.key_pem)
    return ssl.create_default_context(cadata=made.ca_pem.decode())


def write_settings(folder: Path, lines: str) -> Settings:
    """Settings of a cluster whose `[web]` has these lines."""
    made = make_state(folder)
    path = made.state_dir / config.CONFIG_NAME
    path.write_text(f"{path.read_text()}[web]\nport = {free_port()}\n{lines}")
    return config.load_settings(made.state_dir, {"OQ_CONFIG_FILE": str(path)})


def make_job(client: DbClient, name: str, *, is_shared: bool = False) -> int:
    """A complete job of somebody."""
    job = client.jobs.create_job(
        calculation_mode="classical", description=f"of {name}", user_name=name, data_dir="/data"
    )
    client.jobs.transition(job.id, JobState.EXECUTING)
    client.jobs.transition(job.id, JobState.COMPLETE)
    if is_shared:
        client.call("share_job", job.id, True)
    return job.id


@pytest.fixture(scope="package")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A web service with people who have passwords, and jobs of two of them; there is no broker."""
    folder = tmp_path_factory.mktemp("team")
    me = pwd.getpwuid(os.geteuid()).pw_name
    settings = write_settings(
        folder,
        f"mode = RESTRICTED\ncertificate = {folder}/web.pem\nprivate_key = {folder}/web.key\n"
        f"proxies = {me}@127.0.0.1, 198.51.100.2\nproxy_user_header = X-Remote-User\n"
        "origins = https://maps.example\n",
    )
    trust = make_certificate(settings, folder)
    dbserver, service = LocalDbServer(settings), Service(settings, "web")
    try:
        dbserver.start()
        service.start()
        with DbClient(settings) as client:
            found = Team(settings, service, client, trust)
            for name, role in ROLES.items():
                found.people.set_password(name, PASSWORD, role)
            found.jobs = {
                "own": make_job(client, "anna"),
                "other": make_job(client, "ben"),
                "shared": make_job(client, "ben", is_shared=True),
            }
            yield found
    finally:
        service.close()
        dbserver.close()
